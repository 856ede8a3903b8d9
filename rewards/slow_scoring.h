// SPDX-License-Identifier: Apache-2.0
// Slow rewards at work while other rows are still being generated (docs/design/006-slow-rewards.md).
#pragma once

#include <chrono>
#include <compare>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "plural/reward.h"

namespace plural {

/// A row as slow rewards see it. They are deterministic, so equal rows have equal verdicts.
struct SlowRow {
  const Example* example = nullptr;
  int64_t num_answers = 1;
  std::string text;
  std::vector<TokenId> ids;
  auto operator<=>(const SlowRow&) const = default;
};

struct SlowVerdict {
  float value = 0;
  std::optional<bool> valid{};      ///< none: the reward says nothing about it
  std::vector<float> per_answer{};  ///< empty where the reward has no parts
  bool failed = false;              ///< the value is the fail value
};

/// What the slow rewards of a stack have said so far, failures included. Batches that share one, and so have rows in
/// common (a step with refills scores those that it keeps again), ask about each row once.
struct SlowMemory {
  struct Term {
    std::map<SlowRow, SlowVerdict> verdicts;
    std::map<std::string, double> metrics;  ///< of all calls
    std::string problem;                    ///< the first of a call, or that the reward was late
  };
  std::vector<Term> terms;  ///< one for each term of the stack
};

/// The slow rewards of one stack on one batch of rows. Each has a thread that takes all rows that are there, scores
/// them, and takes the next ones. A reward that does not return is given up: its thread, which owns all that the reward
/// sees, is left to itself, and the reward is not called again until that call has returned.
class SlowScoring {
 public:
  /// Reads rows as the trainer does. Called on the threads of the rewards, one call at a time each. Must return soon
  /// once it is asked to stop: a call of it is waited for. It may then throw Interrupted.
  using Parse = std::function<AnswerBatch(std::span<const CompletionView>, const std::stop_token&)>;

  /// What RewardInput says besides the rows. Token entropies are not there for slow rewards.
  struct Step {
    int64_t samples_per_prompt = 1;
    int64_t step = 0;
    int64_t steps = 0;
    int64_t max_new_tokens = 0;
    int64_t vocab_size = 0;
    explicit Step(const RewardInput& input)
        : samples_per_prompt(input.samples_per_prompt),
          step(input.step),
          steps(input.steps),
          max_new_tokens(input.max_new_tokens),
          vocab_size(input.vocab_size) {}
  };

  /// `stack` must outlive this object, and so must what `parse` refers to. `memory`: shared with earlier and later
  /// batches of this step and this stack; a new one when null.
  SlowScoring(const RewardStack& stack, Parse parse, const Step& step, std::shared_ptr<SlowMemory> memory = nullptr);
  /// Asks the rewards that are still at work to stop, and gives up those that do not.
  ~SlowScoring();
  SlowScoring(const SlowScoring&) = delete;
  SlowScoring& operator=(const SlowScoring&) = delete;

  /// Hands over rows first_row, first_row + 1, ... that were asked for num_answers answers, and returns at once. `ids`
  /// may be empty. `example` must outlive this object and its memory.
  void add(int64_t first_row, const Example& example, int64_t num_answers, std::vector<std::string> texts,
           std::vector<std::vector<TokenId>> ids = {});
  /// Hands over a whole batch at once; without a shared memory `parse` is then called once, with all its rows.
  void add_all(const RewardInput& input);
  /// No more rows come. Waits until every reward is done or its deadline, counted from now, has passed. One output for
  /// each term of the stack, undefined for those that are not slow; tensors on the device of `answers`, whose rows are
  /// those that were added. An InputError of a reward is thrown here.
  std::vector<RewardOutput> finish(const AnswerBatch& answers);

 private:
  struct Runner;
  struct Rows;
  Rows take(int64_t first_row, const Example& example, int64_t num_answers, std::vector<std::string> texts,
            std::vector<std::vector<TokenId>> ids);
  Rows unknown(const Rows& group, const SlowMemory::Term& known) const;
  void hand_over(const std::vector<Rows>& groups);
  void settle(size_t term, std::chrono::steady_clock::time_point deadline);
  RewardOutput output_of(const SlowMemory::Term& known, const AnswerBatch& answers) const;
  const RewardStack& stack_;
  std::shared_ptr<SlowMemory> memory_;
  std::vector<SlowRow> rows_;                     // in their places
  std::vector<std::unique_ptr<Runner>> runners_;  // one for each term, null for those that are not slow
};

}  // namespace plural
