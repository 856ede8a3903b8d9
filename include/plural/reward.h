// SPDX-License-Identifier: Apache-2.0
// Rewards judge a batch of answer sets. Subclass Reward, or use the bundled ones by name.
#pragma once

#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "plural/answers.h"
#include "plural/config.h"
#include "plural/dataset.h"
#include "plural/registry.h"
#include "plural/tensor.h"

namespace plural {

/// What a reward may look at. Everything is aliased, nothing is owned.
struct RewardInput {
  const AnswerBatch& answers;                ///< B rows, K slots, on the policy's device
  std::span<const Example* const> examples;  ///< B, group-major
  std::span<const std::string> completions;  ///< B texts
  int64_t samples_per_prompt = 1;            ///< G
  int64_t step = 0;                          ///< optimiser step, for schedules
};

/// What a reward returns. Tensors are on the device of the input.
struct RewardOutput {
  Tensor row{};                             ///< [B] float32
  Tensor per_answer{};                      ///< [B, K] float32, optional: the part of `row` that each answer earned
  Tensor valid{};                           ///< [B] bool, optional: false = this reward does not apply to the row
  std::map<std::string, double> metrics{};  ///< named scalars for the log
};

/// One judgement. `score` is const, thread-safe and deterministic given its input.
class Reward {
 public:
  virtual ~Reward() = default;
  virtual std::string name() const = 0;
  virtual RewardOutput score(const RewardInput& input) const = 0;
  /// What the slots of `keep` ([B, K] bool) earn together, [B]: f(A_keep) for per-answer credit. Slots left out neither
  /// earn nor cost, so score_subset(nothing) is what a completion without answers is paid. Undefined (the default):
  /// the reward judges the completion as a whole and has no parts.
  virtual Tensor score_subset(const RewardInput& input, const Tensor& keep) const { return {}; }
  /// The formula for people, e.g. "coverage = |distinct correct| / K".
  virtual std::string formula() const { return name(); }
};

/// The bundled rewards (rewards/, one file each). The caller may add more before building a stack.
Registry<Reward> builtin_rewards();

/// Rewards with weights. Total of a row = sum of weight * value over the rewards valid for it.
class RewardStack {
 public:
  struct Term {
    std::unique_ptr<Reward> reward;
    double weight = 1.0;  ///< 0 = computed and logged, not paid
    std::string name;     ///< in logs; the reward's name unless given
  };
  struct Result {
    Tensor total;                           ///< [B] float32
    Tensor per_answer;                      ///< [B, K] float32: weighted sum of the per-answer parts
    std::vector<RewardOutput> parts;        ///< one for each term, unweighted
    std::map<std::string, double> metrics;  ///< "reward/<name>/mean", "reward/<name>/std", ...
  };

  void add(std::unique_ptr<Reward> reward, double weight = 1.0, std::string name = "");
  Result score(const RewardInput& input) const;
  const std::vector<Term>& terms() const { return terms_; }
  /// "total = 0.5 format + 1 coverage - ..." in full, printed at start.
  std::string formula() const;

 private:
  std::vector<Term> terms_;
};

/// Builds a stack from the `rewards:` list: each entry has `name`, optional `weight` and the reward's options.
RewardStack build_reward_stack(const std::vector<PartSpec>& specs, const Registry<Reward>& registry);

}  // namespace plural
