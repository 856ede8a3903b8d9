// SPDX-License-Identifier: Apache-2.0
// Objective = ratio x surrogate x aggregation, plus a KL term. Tensors are flat: the M scored tokens of a
// micro-batch, with each token's row. Sums over micro-batches add up to the loss of the whole batch, because
// every normaliser comes from BatchCounts, counted once over all micro-batches and ranks.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "plural/config.h"
#include "plural/registry.h"
#include "plural/tensor.h"

namespace plural {

/// Token counts of the whole optimiser batch: all micro-batches, all ranks. Rows of zero advantage count,
/// though they may never reach the objective.
struct BatchCounts {
  double rows = 0;         ///< B, rows that take part
  double tokens = 0;       ///< scored tokens of those rows
  double max_tokens = 0;   ///< L_max, the constant of Dr.GRPO: max_new_tokens
  double rank_tokens = 0;  ///< scored tokens of this rank's rows ("bnpo"); equals `tokens` on one rank
  double ranks = 1;
};

struct ObjectiveInput {
  Tensor log_prob;      ///< [M] nats, with gradient
  Tensor old_log_prob;  ///< [M] nats, behaviour policy; undefined = log_prob.detach() (exactly on-policy)
  Tensor ref_log_prob;  ///< [M] nats, reference; undefined when there is no KL term
  Tensor advantage;     ///< [M] per token, dtype of log_prob
  Tensor row;           ///< [M] int64: row of the micro-batch that the token belongs to
  Tensor row_tokens;    ///< [rows] dtype of log_prob: scored tokens of each row of the micro-batch
  BatchCounts counts;
};

struct LossTerms {
  Tensor loss;  ///< scalar: this micro-batch's part of the loss
  /// Scalars without gradient, to be summed over micro-batches and divided by the tokens seen: "ratio",
  /// "clip_low", "clip_high", "kl_old", and "kl_ref" with a reference.
  std::map<std::string, Tensor> sums;
};

/// Options of the bundled policy-gradient objective.
struct ObjectiveOptions {
  std::string aggregation = "dapo";
  double clip_low = 0.2;
  double clip_high = 0.28;
  double kl_weight = 0.0;
  std::string kl = "k3";

  using config_struct = void;
  template <class V>
  void fields(V& v) {
    v.field("aggregation", aggregation, one_of({"dapo", "grpo", "dr_grpo", "bnpo"}),
            "how token losses become one number: dapo = mean over all tokens, grpo = mean of row means, dr_grpo = sum "
            "/ (rows x "
            "max_new_tokens), bnpo = mean over ranks of each rank's token mean");
    v.field("clip_low", clip_low, between(0, 1), "ratios below 1 - clip_low stop earning (negative advantages)");
    v.field("clip_high", clip_high, at_least(0), "ratios above 1 + clip_high stop earning (positive advantages)");
    v.field("kl_weight", kl_weight, at_least(0), "beta: weight of the KL to the reference model; 0 = no reference");
    v.field("kl", kl, one_of({"k1", "k2", "k3"}), "estimator of the KL, per token, added to the token loss");
  }
};

class Objective {
 public:
  virtual ~Objective() = default;
  virtual std::string name() const = 0;
  /// A broken shape throws CheckError with the table of shapes.
  virtual LossTerms loss(const ObjectiveInput& input) const = 0;
  /// True when loss() wants ref_log_prob; then rows of zero advantage still have a gradient.
  virtual bool needs_reference() const { return false; }
};

/// PPO clip with asymmetric bounds, aggregation and KL as named (docs/objectives.md). An unknown name throws
/// InputError with the list of names.
std::unique_ptr<Objective> make_policy_gradient(const ObjectiveOptions& options);

}  // namespace plural
