// SPDX-License-Identifier: Apache-2.0
// Rewards judge a batch of answer sets. Subclass Reward, or use the bundled ones by name.
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "plural/answers.h"
#include "plural/config.h"
#include "plural/dataset.h"
#include "plural/embedder.h"
#include "plural/registry.h"
#include "plural/tensor.h"

namespace plural {

/// What a reward may look at. Everything is aliased, nothing is owned.
struct RewardInput {
  const AnswerBatch& answers;                ///< B rows, K slots, on the policy's device
  std::span<const Example* const> examples;  ///< B, group-major
  std::span<const std::string> completions;  ///< B texts
  int64_t samples_per_prompt = 1;            ///< G
  int64_t step = 0;                          ///< steps done before this one, for schedules
  int64_t steps = 0;                         ///< steps of the whole run; 0 = there is no run
  int64_t max_new_tokens = 0;                ///< longest completion that sampling allows; 0 = unknown
  int64_t vocab_size = 0;                    ///< V; 0 = unknown
  /// [B, T] float32, nats: entropy of the distribution (over all of V, at the sampling temperature) that each token was
  /// drawn from. Entries from answers.length on mean nothing. Undefined unless a reward of the stack needs it.
  Tensor token_entropy{};
  const Embedder* policy_embedder = nullptr;  ///< the policy that wrote the answers; null where there is none
  std::stop_token stop{};                     ///< asks a slow reward to return soon; what it has not judged yet fails
};

/// What a reward returns. Tensors are on the device of the input. A row in which `row` or `per_answer` holds NaN or an
/// infinity counts as one that the reward does not apply to.
struct RewardOutput {
  Tensor row{};                             ///< [B] float32
  Tensor per_answer{};                      ///< [B, K] float32, optional: the part of `row` that each answer earned
  Tensor valid{};                           ///< [B] bool, optional: false = this reward does not apply to the row
  std::map<std::string, double> metrics{};  ///< named scalars for the log; of slow rewards counts, which add up
  std::string problem{};                    ///< slow rewards: why a judgement failed, for people; "" when none did
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
  /// True: score() reads RewardInput::token_entropy, which costs the trainer one forward pass more.
  virtual bool needs_token_entropy() const { return false; }
  /// The least that one of k answers earns by being right instead of wrong, in units of the row, when it is stated with
  /// a confidence near 0: f(0+) - g(0+). `exclusive`: questions have one right answer, else the least over all sets.
  /// A reward for correctness has a positive margin, a proper score of confidences a negative one. A stack whose
  /// weighted margins sum below 0 pays for answers that are wrong on purpose (docs/guides/reward_stacks.md).
  virtual double zero_confidence_margin(int64_t k, bool exclusive) const { return 0; }
  /// Its parts are scores of confidences: credit for them goes to the tokens that state the confidences.
  virtual bool judges_confidences() const { return false; }
  /// What an answer earns depends on its stated confidence, so that it is not known before that is written. True for
  /// whatever judges confidences.
  virtual bool reads_confidences() const { return judges_confidences(); }
  /// The formula for people, e.g. "coverage = |distinct correct| / K".
  virtual std::string formula() const { return name(); }
  /// True for a reward that waits for something outside (a process, a server, a person). It runs on a thread of its
  /// own, beside the generation of the step's other prompts, gets its input on the CPU, and is given `deadline_s`.
  virtual bool slow() const { return false; }
  /// What a row is paid when a slow reward throws or is not back in time.
  virtual double fail_value() const { return 0.0; }
  /// False: the reward never applies to rows of this example, so none is paid the fail value. Asked about the rows that
  /// a slow reward did not judge; cheap, and called also while score() runs.
  virtual bool applies_to(const Example& example) const { return true; }
};

/// What the bundled rewards get from the program that uses them.
struct BuiltinRewardOptions {
  /// Asked for the secrets that options name (`api_key_env`); without it such an option throws InputError.
  VariableLookup variables{};
  /// What the rewards that compare answers by embeddings may name under `embedder:`.
  Registry<Embedder> embedders = builtin_embedders();
};

/// The bundled rewards (rewards/, one file each). The caller may add more before building a stack.
Registry<Reward> builtin_rewards(const BuiltinRewardOptions& options = {});

class SlowScoring;

/// A weight, constant or moving with the step: `from` until step `begin`, then linear, `value` from step `end` on.
struct RewardWeight {
  double value = 1.0;  ///< 0 (and no ramp) = computed and logged, not paid
  double from = value;
  int64_t begin = 0;
  int64_t end = 0;  ///< 0 = the last step of the run

  RewardWeight(double constant = 1.0) : value(constant) {}  // NOLINT(google-explicit-constructor): a weight is a number
  RewardWeight(double from, double value, int64_t begin, int64_t end = 0)
      : value(value), from(from), begin(begin), end(end) {}
  bool constant() const { return from == value; }
  /// The weight at a step. Outside a run (steps 0) it is `value`.
  double at(int64_t step, int64_t steps) const;
};

/// Rewards with weights. Total of a row = sum of weight * value over the rewards that apply to it.
class RewardStack {
 public:
  static constexpr double kDeadlineS = 300;

  struct Term {
    std::shared_ptr<const Reward> reward;  ///< shared with a call that was given up and has not returned yet
    RewardWeight weight;
    std::string name;                ///< in logs; the reward's name unless given
    double deadline_s = kDeadlineS;  ///< slow rewards: seconds that the completed batch waits for it
    std::shared_ptr<std::atomic<bool>> stuck = std::make_shared<std::atomic<bool>>(false);  ///< such a call is out
  };
  struct Result {
    Tensor total;                           ///< [B] float32
    Tensor per_answer;                      ///< [B, K] float32: weighted sum of the per-answer parts
    std::vector<RewardOutput> parts;        ///< one for each term, unweighted
    std::vector<double> weights;            ///< one for each term: those of this step
    std::map<std::string, double> metrics;  ///< "reward/<name>/mean" and others (docs/guides/metrics.md)
    std::vector<std::string> problems;      ///< "<name>: why judgements of a slow reward failed"
  };

  void add(std::unique_ptr<Reward> reward, RewardWeight weight = {}, std::string name = "",
           double deadline_s = kDeadlineS);
  /// Slow rewards run side by side; rows of one that throws or misses its deadline get its fail_value() and are counted
  /// in "reward/<name>/failed_rows", but for those that it does not apply to. An InputError passes through. `begun`:
  /// slow rewards are at work on these rows already.
  Result score(const RewardInput& input, SlowScoring* begun = nullptr) const;
  bool has_slow() const;
  /// f(A_keep), [B] float32: what the slots of `keep` ([B, K] bool) are paid together, with the weights of `result`,
  /// which is score(input). f(all slots) is result.total.
  ///
  /// A reward without parts judges the completion as a whole: its weighted row value is in every f(A_keep), so that
  /// differences hold none of it. Credit by differences adds it back: with whole = score_whole(input, result), the
  /// reward-to-go of answer k is f(all) - f(those before k) + whole. Gates (format, duplicates, sum of confidences) are
  /// verdicts on the whole completion too: where one is closed, every subset is paid what the closed gate pays.
  Tensor score_subset(const RewardInput& input, const Result& result, const Tensor& keep) const;
  /// [B] float32: the part of result.total that comes from rewards without parts.
  Tensor score_whole(const RewardInput& input, const Result& result) const;
  bool needs_token_entropy() const;
  /// Ways in which the stack pays for what nobody wants, as sentences for people; empty when none is known. k: answers
  /// asked for.
  std::vector<std::string> warnings(int64_t k) const;
  const std::vector<Term>& terms() const { return terms_; }
  /// "total = 0.5 format + 1 coverage - ..." in full, printed at start.
  std::string formula() const;

 private:
  std::vector<Term> terms_;
};

/// Builds a stack from the `rewards:` list: each entry has `name`, optional `weight`, `ramp` and `label`,
/// and the reward's own options.
RewardStack build_reward_stack(const std::vector<PartSpec>& specs, const Registry<Reward>& registry);

}  // namespace plural
