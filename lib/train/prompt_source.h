// SPDX-License-Identifier: Apache-2.0
// Which prompts a step samples: the data in a shuffled order or by pass rate, K for each of them, and the groups that
// earlier steps sampled but did not need. All of it is a pure function of the seed and of what earlier steps reported.
#pragma once

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "plural/checkpoint.h"
#include "plural/data_options.h"
#include "plural/metrics.h"
#include "plural/rollout.h"

namespace plural {

struct PromptDraw {
  int64_t example = 0;      ///< index into the data
  int64_t num_answers = 1;  ///< K
};

/// A prompt with its G completions, log-probs and all, as they were sampled.
struct SampledGroup {
  int64_t example = 0;
  int64_t num_answers = 1;
  int64_t step = 0;  ///< steps done when it was sampled
  std::vector<TokenId> prompt{};
  std::vector<Completion> rows{};
};

/// What a step did, to be reported when it can no longer fail.
struct PromptUse {
  int64_t drawn = 0;                                     ///< prompts drawn
  int64_t carried = 0;                                   ///< groups taken over from earlier steps
  std::vector<std::pair<int64_t, double>> pass_rates{};  ///< (example, pass rate) of each prompt drawn
  std::vector<SampledGroup> spare{};                     ///< groups sampled in this step for later ones
};

struct PromptSourceOptions {
  int64_t examples = 0;  ///< size of the data
  int64_t samples_per_prompt = 1;
  std::vector<int64_t> num_answers = {1};  ///< K is drawn uniformly from these
  CurriculumOptions curriculum{};
  CarryOverOptions carry_over{};
  uint64_t seed = 1;
};

class PromptSource {
 public:
  /// Throws InputError for a measure or an order of unseen prompts that does not exist.
  explicit PromptSource(PromptSourceOptions options);

  /// Draws first, first + 1, ... first + count - 1 of step `step`. Without a curriculum an epoch has every example
  /// once; with one, a step has every example before it has any a second time, at O(N log N) for N examples.
  std::vector<PromptDraw> draw(int64_t step, int64_t first, int64_t count) const;
  /// At most `most` of the groups that were kept, oldest first; none is too old for the next step.
  std::span<const SampledGroup> carried(int64_t most) const;
  void finish_step(int64_t step, const PromptUse& use);

  /// Chance of an example to be drawn next, relative to one at the target; of one not seen yet under "first": 1, among
  /// those.
  double chance(int64_t example) const;

  int64_t position() const { return position_; }
  /// "curriculum/...", where there is one.
  MetricMap metrics() const;

  /// The rest of the state; empty when neither curriculum nor carry-over is on.
  void add_state(NamedTensors& memory) const;
  /// What the memory lacks starts anew; what does not fit the data throws InputError.
  void restore(int64_t position, const NamedTensors& memory);

 private:
  double seen_chance(double pass_rate) const;
  std::vector<int64_t> order_by_pass_rate(int64_t step) const;

  PromptSourceOptions options_;
  int64_t position_ = 0;           // prompts ever drawn
  std::vector<double> pass_rate_;  // of each example; NaN = not sampled yet
  std::vector<SampledGroup> kept_;
};

}  // namespace plural
