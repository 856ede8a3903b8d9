// SPDX-License-Identifier: Apache-2.0
// The loops: reinforcement learning and supervised fine-tuning. A trainer owns nothing it did not receive;
// it does no file work. Run folders, checkpoints and progress live in plural/run.h.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <stop_token>
#include <string>
#include <vector>

#include "plural/advantage.h"
#include "plural/answers.h"
#include "plural/checkpoint.h"
#include "plural/config.h"
#include "plural/critic.h"
#include "plural/data_options.h"
#include "plural/dataset.h"
#include "plural/metrics.h"
#include "plural/objective.h"
#include "plural/optimizer.h"
#include "plural/policy.h"
#include "plural/reward.h"
#include "plural/rng.h"
#include "plural/rollout.h"

namespace plural {

/// Sizes and sampling of RL. One optimiser batch = prompts_per_step x samples_per_prompt rows.
struct RlOptions {
  int64_t steps = 100;
  int64_t prompts_per_step = 4;    ///< P
  int64_t samples_per_prompt = 8;  ///< G
  int64_t passes = 1;              ///< optimiser steps taken on each batch of completions
  int64_t max_refills = 0;         ///< rounds of further prompts in place of those whose rewards are all equal
  double refill_factor = 1.0;      ///< prompts that such a round draws for each one it is to replace
  CarryOverOptions carry_over;
  CurriculumOptions curriculum;
  ReplayOptions replay;
  std::vector<int64_t> num_answers = {3};  ///< K; drawn uniformly from these for each prompt
  int64_t max_batch_tokens = 8192;         ///< packed tokens of one micro-batch; changes memory, never the result
  SamplingOptions sampling;
  uint64_t seed = 1;
  ReferenceUpdateOptions reference_update{};  ///< of RlParts::reference
  std::stop_token stop{};                     ///< ends a matcher's wait; step() then throws Interrupted
};

/// Throws InputError naming both when the objective cannot take the advantages that the estimator gives, or would weigh
/// off-policy completions a second time.
void check_advantage_fits(const Objective& objective, const AdvantageEstimator& advantage);

/// One sampled row of a step, for samples/*.jsonl.
struct RowRecord {
  const Example* example = nullptr;
  const Completion* completion = nullptr;
  const AnswerSet* answers = nullptr;
  std::vector<int64_t> match;  ///< of each of these answers: the gold answer that it is, or -1
  double total = 0;
  double advantage = 0;
  std::vector<std::pair<std::string, double>> rewards;  ///< unweighted value of each reward
};

struct StepReport {
  int64_t step = 0;                     ///< steps done, this one included
  MetricMap metrics;                    ///< docs/guides/metrics.md defines each name and unit
  std::vector<std::string> notes = {};  ///< what went wrong without stopping the step, for people
};

/// What RL works with; everything is borrowed and must outlive the trainer.
struct RlParts {
  Policy& policy;
  RolloutEngine& engine;
  const Tokenizer& tokenizer;
  std::span<const Example> examples;
  const AnswerFormat& format;
  const Matcher& matcher;
  const RewardStack& rewards;
  const AdvantageEstimator& advantage;
  const Objective& objective;
  AdamW& optimizer;
  Policy* reference = nullptr;  ///< for the KL term; changed when it is to follow the policy
  Critic* critic = nullptr;     ///< for an advantage that needs values
};

class ModeReplay;       // lib/train/mode_replay.h
class MovingReference;  // lib/train/moving_reference.h
class PromptSource;     // lib/train/prompt_source.h

/// Generate, parse, score, credit, update, report. Rows of zero advantage cost no forward or backward (unless
/// there is a KL or an entropy term); a step in which no row has an advantage changes nothing, momentum included. With
/// a critic: values and their targets are taken before the update, which trains policy and critic in the same passes.
class RlTrainer {
 public:
  /// Throws InputError for options that cannot work: a temperature of 0, K > 1 with a format for one answer, a
  /// KL term without a reference, an advantage for single tokens with an objective that takes one a row, a critic
  /// without an advantage that needs one or the reverse.
  RlTrainer(RlParts parts, RlOptions options);
  /// One batch of completions and `passes` optimiser steps on it. When it throws while sampling or scoring
  /// (Interrupted, InputError naming the example) nothing has changed.
  StepReport step();
  bool done() const { return step_ >= options_.steps; }
  /// Rows of the last step (valid until the next one).
  void visit_rows(const std::function<void(const RowRecord&)>& visit) const;
  /// All that decides the steps to come. Its tensors alias the live ones: write or clone them before the next step.
  TrainState state() const;
  /// Goes on from a state, bit for bit on the CPU. Entries that do not fit throw InputError naming the parameter.
  void restore(const TrainState& state);

 private:
  struct LastStep;
  struct ReplayedRows;
  /// Take over what was kept, generate, parse and score; then again for as long as refills are allowed and groups are
  /// all-equal.
  void sample(LastStep& s) const;
  void take_carried(LastStep& s) const;
  void draw_prompts(LastStep& s, int64_t prompts) const;
  void generate(LastStep& s) const;
  void parse(LastStep& s) const;
  void score(LastStep& s) const;
  void note_pass_rates(LastStep& s, int64_t fresh) const;
  Tensor teaching_groups(LastStep& s) const;
  void keep_wanted(LastStep& s, const Tensor& teaching) const;
  Tensor completion_entropy(const LastStep& s) const;
  void begin_slow_rewards(LastStep& s) const;
  RolloutBatch generate_and_hand_over(LastStep& s, std::span<const std::vector<TokenId>> prompts,
                                      const RolloutKey& key) const;
  AnswerBatch parse_rows(std::span<const CompletionView> views, at::Device device, const std::stop_token& stop) const;
  RewardInput reward_input(const LastStep& s, int64_t samples_per_prompt) const;
  void pay_kl(LastStep& s) const;
  Tensor score_greedy(const LastStep& s) const;
  void estimate_values(LastStep& s) const;
  void credit(LastStep& s) const;
  MetricMap update(LastStep& s) const;
  ReplayedRows replayed_rows(const LastStep& s) const;
  std::vector<int64_t> example_of_row(const LastStep& s) const;
  void steer_weights(MetricMap& metrics);
  StepReport report(MetricMap metrics, double seconds) const;

  RlParts parts_;
  RlOptions options_;
  int64_t step_ = 0;
  std::shared_ptr<PromptSource> source_;
  std::shared_ptr<ModeReplay> replay_;  // null where it is off
  ObjectiveWeights weights_;
  std::shared_ptr<LastStep> last_;
  std::shared_ptr<MovingReference> moving_reference_;  ///< null: the reference stays
};

/// The confidences that fine-tuning states with gold answers.
struct ConfidenceTargets {
  std::vector<double> levels = {0.5};  ///< those that may be stated, in [0, 1]; at least one
  /// "uniform": any level, whatever the answer. "weight": the level nearest to w^power (the first of two that are as
  /// near), w the answer's share of the example's gold weights, that is the probability that it is drawn first.
  std::string source = "uniform";
  double power = 1;  ///< 1 = honest, below 1 = overconfident; >= 0
};

/// Where the targets of fine-tuning come from.
struct SftOptions {
  int64_t steps = 100;
  int64_t rows_per_step = 16;       ///< "responses": whole examples are drawn until there are this many rows
  int64_t max_batch_tokens = 8192;  ///< packed tokens of one micro-batch; changes memory, never the result
  std::string target = "gold";  ///< "gold": sets drawn from the gold distribution; "responses": the responses as they
                                ///< are
  std::vector<int64_t> num_answers = {3};  ///< K is drawn uniformly from these for each row ("gold")
  ConfidenceTargets confidences = {};      ///< what is stated ("gold")
  uint64_t seed = 1;
};

struct SftParts {
  Policy& policy;
  const Tokenizer& tokenizer;
  std::span<const Example> examples;
  const AnswerFormat& format;
  AdamW& optimizer;
};

/// Prompt tokens are not scored; the loss is the mean over all target tokens of the step.
class SftTrainer {
 public:
  /// Throws InputError for unusable options and for examples without the field that `target` needs, or with gold
  /// answers that the format cannot hold.
  SftTrainer(SftParts parts, SftOptions options);
  /// Rows longer than the context throw InputError naming the example; nothing has changed then.
  StepReport step();
  bool done() const { return step_ >= options_.steps; }
  /// As RlTrainer's.
  TrainState state() const;
  void restore(const TrainState& state);

 private:
  struct Row;
  void check_gold(const Example& example) const;
  std::vector<Row> draw_rows(int64_t& position) const;
  std::string render(const Example& example, const std::vector<StatedAnswer>& answers) const;
  void add_row(const Example& example, int64_t k, const std::string& text, std::vector<Row>& rows) const;
  MetricMap update(const std::vector<Row>& rows) const;

  SftParts parts_;
  SftOptions options_;
  int64_t step_ = 0;
  int64_t data_position_ = 0;
};

/// A training set of answers drawn from the gold distribution: min(k, distinct) answers without replacement
/// by weight (gold answers of weight 0 count as 1e-6; those with equal normal forms are one, their weights added;
/// those with an empty one, which nothing matches, are left out), spelled as `answer`. A pure function of the stream.
std::vector<StatedAnswer> draw_gold_answers(const Example& example, int64_t k, const ConfidenceTargets& confidences,
                                            RandomStream& stream);

}  // namespace plural
