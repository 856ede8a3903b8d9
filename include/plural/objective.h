// SPDX-License-Identifier: Apache-2.0
// Objective = ratio x surrogate x aggregation, plus KL and entropy terms. Tensors are flat: the M scored tokens of a
// micro-batch, with each token's row. Sums over micro-batches add up to the loss of the whole batch, because
// every normaliser comes from BatchCounts, counted once over all micro-batches and ranks.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "plural/config.h"
#include "plural/registry.h"
#include "plural/tensor.h"

namespace plural {

/// Token counts of the whole optimiser batch: all micro-batches, all ranks, after every mask. Rows of zero advantage
/// count, though they may never reach the objective.
struct BatchCounts {
  double rows = 0;         ///< B, rows that take part
  double tokens = 0;       ///< scored tokens of those rows
  double max_tokens = 0;   ///< L_max, the constant of Dr.GRPO: max_new_tokens
  double rank_tokens = 0;  ///< scored tokens of this rank's rows ("bnpo"); equals `tokens` on one rank
  double ranks = 1;
};

/// Weights that a controller moves from step to step.
struct ObjectiveWeights {
  double kl = 0;       ///< beta
  double entropy = 0;  ///< of the entropy bonus, as it is applied
  /// What the entropy controller would apply were the entropy below its target; equals `entropy` without one.
  double entropy_ready = 0;
};

struct ObjectiveInput {
  Tensor log_prob;          ///< [M] nats, with gradient
  Tensor old_log_prob;      ///< [M] nats, behaviour policy; undefined = log_prob.detach() (exactly on-policy)
  Tensor ref_log_prob;      ///< [M] nats, reference; undefined when there is no KL term
  Tensor sampler_log_prob;  ///< [M] nats, as the sampler stated them; undefined unless asked for
  Tensor entropy;           ///< [M] nats, with gradient; undefined unless asked for
  Tensor advantage;         ///< [M] per token, dtype of log_prob
  Tensor row;               ///< [M] int64: row of the micro-batch that the token belongs to
  Tensor row_tokens;        ///< [rows] dtype of log_prob: tokens of each row of the micro-batch, counted or not
  /// [M] bool: the tokens that count; undefined = all. The others take part in what is taken over a whole row (the
  /// ratios of GSPO, GMPO and VESPO, importance of sequences) and in nothing else. `counts` are of those that count.
  Tensor counted{};
  BatchCounts counts;
  std::optional<ObjectiveWeights> weights{};  ///< absent = Objective::start_weights()
};

struct LossTerms {
  Tensor loss;  ///< scalar: this micro-batch's part of the loss
  /// Scalars without gradient, to be summed over micro-batches and divided by the tokens seen: "ratio",
  /// "clip_low", "clip_high", "kl_old", and "kl_ref" with a reference.
  std::map<std::string, Tensor> sums;
};

/// A look at every token of the optimiser batch before the loss, to decide which ones count.
struct MaskInput {
  Tensor log_prob;          ///< [M] nats, current policy, no gradient
  Tensor old_log_prob;      ///< [M] nats, the policy at the start of the step
  Tensor sampler_log_prob;  ///< [M] nats
  Tensor entropy;           ///< [M] nats, current policy
  Tensor advantage;         ///< [M]
  Tensor row;               ///< [M] int64
  int64_t rows = 0;
};

/// What an objective asks of the update, and what it cannot take.
struct ObjectiveNeeds {
  bool reference = false;       ///< ref_log_prob; rows of zero advantage then have a gradient, too
  bool sampler = false;         ///< sampler_log_prob
  bool entropy = false;         ///< entropy with gradient; the same holds
  bool token_mask = false;      ///< calls token_mask before every pass: one more forward without gradient
  bool kl_in_reward = false;    ///< beta x (log pi - log pi_ref), summed over a row, is taken off its reward
  bool drop_truncated = false;  ///< rows that ended at a length limit do not count
  /// Why the tokens of one row cannot have different advantages; "" = they can.
  std::string no_token_advantages;
};

/// What a step measured, for the controllers.
struct StepMeasure {
  double kl = 0;       ///< nats a token, to the reference
  double entropy = 0;  ///< nats a token
  double rows = 0;     ///< B
};

/// How the reference of the KL term follows the policy.
struct ReferenceUpdateOptions {
  int64_t every = 0;
  double rate = 1.0;

  using config_struct = void;
  template <class V>
  void fields(V& v) {
    v.field("every", every, at_least(0), "steps between moves of the reference; 0 = it stays");
    v.field("rate", rate, between(0, 1), "reference x (1 - rate) + policy x rate; 1 = a copy of the policy");
  }
};

/// Options of the bundled policy-gradient objective (docs/objectives.md).
struct ObjectiveOptions {
  std::string ratio = "token";
  std::string surrogate = "ppo_clip";
  std::string aggregation = "dapo";
  double clip_low = 0.2;
  double clip_high = 0.28;
  double dual_clip = 0.0;
  double ratio_cap = 0.0;
  double tau_positive = 1.0;
  double tau_negative = 1.05;
  double kl_weight = 0.0;
  std::string kl = "k3";
  std::string kl_in = "loss";
  bool kl_times_ratio = false;
  double kl_target = 0.0;
  std::string kl_controller = "proportional";
  double kl_horizon = 10000;
  double kl_rate = 0.1;
  ReferenceUpdateOptions reference_update{};
  double entropy_weight = 0.0;
  double entropy_target = 0.0;
  double entropy_rate = 0.005;
  double entropy_max = 1.0;
  std::string importance = "none";
  std::string importance_mode = "truncate";
  double importance_cap = 2.0;
  double importance_floor = 0.0;
  double off_policy_threshold = 0.0;
  double top_entropy = 1.0;
  bool mask_truncated = false;

  using config_struct = void;
  template <class V>
  void fields(V& v) {
    v.field("ratio", ratio, one_of({"token", "sequence", "sequence_token"}),
            "pi / pi_old of a token; sequence: the geometric mean over its row (GSPO); sequence_token: that value with "
            "the token's own gradient, so that advantages may differ within a row");
    v.field("surrogate", surrogate, one_of({"ppo_clip", "cispo", "sapo", "gmpo", "dppo_tv", "vespo", "reinforce"}),
            "what a token earns from its ratio and its advantage");
    v.field("aggregation", aggregation, one_of({"dapo", "grpo", "dr_grpo", "bnpo", "luspo"}),
            "how token losses become one number: dapo = mean over all tokens, grpo = mean of row means, dr_grpo = sum "
            "/ (rows x max_new_tokens), bnpo = mean over ranks of each rank's token mean, luspo = mean of row sums");
    v.field("clip_low", clip_low, at_least(0), "ratios below 1 - clip_low stop earning (negative advantages)");
    v.field("clip_high", clip_high, at_least(0), "ratios above 1 + clip_high stop earning (positive advantages)");
    v.field("dual_clip", dual_clip, at_least(0),
            "c > 1: a token of negative advantage costs at most c |A| (ppo_clip); 0 = off");
    v.field("ratio_cap", ratio_cap, at_least(0), "largest ratio in the unclipped term (ppo_clip); 0 = off");
    v.field("tau_positive", tau_positive, above(0), "sapo: temperature for advantages above 0");
    v.field("tau_negative", tau_negative, above(0), "sapo: temperature for the others");
    v.field("kl_weight", kl_weight, at_least(0), "beta: weight of the KL to the reference model; 0 = no reference");
    v.field("kl", kl, one_of({"k1", "k2", "k3"}), "estimator of the KL, per token");
    v.field("kl_in", kl_in, one_of({"loss", "reward"}),
            "loss: added to the token loss; reward: its sum over a row is taken off the row's reward");
    v.field("kl_times_ratio", kl_times_ratio, any_value(),
            "multiply the KL by the ratio: with k3 its gradient is then that of the reverse KL");
    v.field("kl_target", kl_target, at_least(0), "nats a token that a controller steers the KL to; 0 = beta is fixed");
    v.field("kl_controller", kl_controller, one_of({"proportional", "additive"}),
            "proportional: beta x (1 + clip(KL / target - 1, +-0.2) rows / kl_horizon); additive: beta + kl_rate (KL - "
            "target)");
    v.field("kl_horizon", kl_horizon, above(0), "proportional: rows over which beta may move by a factor of e^0.2");
    v.field("kl_rate", kl_rate, above(0), "additive: step of beta for a KL one nat off");
    v.field("reference_update", reference_update, any_value(), "how the reference model follows the policy");
    v.field("entropy_weight", entropy_weight, at_least(0), "weight of the mean token entropy, a bonus");
    v.field("entropy_target", entropy_target, at_least(0),
            "nats a token below which a controller raises the weight, and above which no bonus is paid; 0 = fixed");
    v.field("entropy_rate", entropy_rate, above(0), "what the controller adds to or takes off the weight a step");
    v.field("entropy_max", entropy_max, above(0), "largest weight that the controller may reach");
    v.field("importance", importance, one_of({"none", "token", "sequence"}),
            "weight losses by pi_old / pi_sampler: of the token, or of its whole row");
    v.field("importance_mode", importance_mode, one_of({"truncate", "mask"}),
            "a weight outside [importance_floor, importance_cap]: moved to the bound, or its tokens do not count");
    v.field("importance_cap", importance_cap, above(0), "largest weight");
    v.field("importance_floor", importance_floor, at_least(0), "smallest weight");
    v.field("off_policy_threshold", off_policy_threshold, at_least(0),
            "rows of negative advantage do not count when their mean log(pi_sampler / pi) is above this; 0 = off");
    v.field("top_entropy", top_entropy, between(0, 1),
            "only this share of the tokens counts, those of highest entropy; 1 = all");
    v.field("mask_truncated", mask_truncated, any_value(), "rows that ended at a length limit do not count");
  }
  /// There is a KL to a reference, in the loss or in the reward.
  bool uses_reference() const { return kl_weight > 0 || kl_target > 0; }
  void validate(ConfigReader& reader);
  /// Key and reason of every combination that makes no sense.
  std::vector<std::pair<std::string, std::string>> problems() const;
};

class Objective {
 public:
  virtual ~Objective() = default;
  virtual std::string name() const = 0;
  /// A broken shape throws CheckError with the table of shapes.
  virtual LossTerms loss(const ObjectiveInput& input) const = 0;
  virtual ObjectiveNeeds needs() const { return {}; }
  /// [M] bool: the tokens that count. Called when needs().token_mask says so.
  virtual Tensor token_mask(const MaskInput& input) const { return {}; }
  /// The weights of the first step, and those of the step after one that used `now` and measured `seen`.
  virtual ObjectiveWeights start_weights() const { return {}; }
  virtual ObjectiveWeights next_weights(const ObjectiveWeights& now, const StepMeasure& seen) const { return now; }
};

/// Ratio, surrogate, aggregation, KL and entropy as named (docs/objectives.md). An unknown name throws InputError with
/// the list of names, a combination that makes no sense InputError with the reason.
std::unique_ptr<Objective> make_policy_gradient(const ObjectiveOptions& options);

}  // namespace plural
