// SPDX-License-Identifier: Apache-2.0
// What a step of RL trains on besides fresh completions of the next prompts in a shuffled order: prompts chosen by how
// hard they are, groups that an earlier step had to spare, and correct completions found before.
#pragma once

#include <cstdint>
#include <string>

#include "plural/config.h"

namespace plural {

/// Prompts drawn by their pass rate: the running mean of what the completions of a prompt reached.
struct CurriculumOptions {
  std::string measure = "none";
  double target = 0.5;
  double width = 0.2;
  double floor = 0.05;
  double decay = 0.5;
  std::string unseen = "first";

  bool on() const { return measure != "none"; }

  using config_struct = void;
  template <class V>
  void fields(V& v) {
    v.field("measure", measure, one_of({"none", "any_correct", "coverage", "reward"}),
            "pass rate of a prompt: share of its completions with a correct answer, their mean coverage, their mean "
            "reward; none: the data in shuffled order");
    v.field("target", target, any_value(), "pass rate that is drawn most often, in units of the measure");
    v.field("width", width, above(0),
            "a prompt whose pass rate is this far from the target is drawn e^-0.5 = 0.61 times as often");
    v.field("floor", floor, between(0, 1), "least chance of a prompt, next to one at the target; 0 gives prompts up");
    v.field("decay", decay, between(0, 1), "share of the old pass rate that stays when a prompt is sampled again");
    v.field("unseen", unseen, one_of({"first", "neutral"}),
            "prompts not sampled yet: before all others, or with the mean chance of those that were");
  }
};

/// Groups with different rewards that refills sampled beyond what the step needed, kept for later steps.
struct CarryOverOptions {
  int64_t max_groups = 0;
  int64_t max_staleness = 1;

  using config_struct = void;
  template <class V>
  void fields(V& v) {
    v.field("max_groups", max_groups, at_least(0), "groups kept at most, the newest; 0 = none");
    v.field("max_staleness", max_staleness, at_least(1), "steps after which a group is too old to be learned from");
  }
};

/// Likelihood replay of verified modes (Re:Max): correct completions found earlier are trained on again.
struct ReplayOptions {
  double weight = 0.0;
  int64_t max_modes = 16;
  int64_t modes_per_step = 0;
  std::string verified = "all";

  bool on() const { return weight > 0; }

  using config_struct = void;
  template <class V>
  void fields(V& v) {
    v.field("weight", weight, at_least(0), "lambda: weight of the replayed completions' mean -ln p a token; 0 = off");
    v.field("max_modes", max_modes, at_least(1),
            "completions kept for a prompt, one for each mode, the first ones found");
    v.field("modes_per_step", modes_per_step, at_least(0), "of these, replayed in a step, taken in turn; 0 = all");
    v.field("verified", verified, one_of({"all", "any"}),
            "completions worth keeping: as many different correct answers as K and the gold answers allow, or at least "
            "one");
  }
};

}  // namespace plural
