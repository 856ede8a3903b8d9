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

/// Token counts of the whole optimiser batch (all micro-batches).
struct BatchCounts {
  double rows = 0;             ///< B, rows that take part
  double tokens = 0;           ///< scored tokens of those rows
  double max_tokens = 0;       ///< L_max, the constant of Dr.GRPO: max_new_tokens
};

struct ObjectiveInput {
  Tensor log_prob;       ///< [M] nats, with gradient
  Tensor old_log_prob;   ///< [M] nats, behaviour policy; undefined = log_prob.detach() (exactly on-policy)
  Tensor ref_log_prob;   ///< [M] nats, reference; undefined when there is no KL term
  Tensor advantage;      ///< [M] per token
  Tensor row;            ///< [M] int64: row of the micro-batch that the token belongs to
  Tensor row_tokens;     ///< [rows] float: scored tokens of each row of the micro-batch
  BatchCounts counts;
  /// For "bnpo" only: scored tokens and share of this micro-batch among all (weights the local mean).
  double micro_tokens = 0;
  double micro_share = 1;
};

struct LossTerms {
  Tensor loss;                            ///< scalar: this micro-batch's part of the loss
  std::map<std::string, Tensor> sums;     ///< scalars to be summed over micro-batches and divided by counts.tokens
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
            "how token losses become one number: dapo = mean over all tokens, grpo = mean of row means, dr_grpo = sum / (rows x "
            "max_new_tokens), bnpo = mean over the tokens of each micro-batch");
    v.field("clip_low", clip_low, between(0, 1), "ratios below 1 - clip_low stop earning (negative advantages)");
    v.field("clip_high", clip_high, at_least(0), "ratios above 1 + clip_high stop earning (positive advantages)");
    v.field("kl_weight", kl_weight, at_least(0), "beta: weight of the KL to the reference model; 0 = no reference");
    v.field("kl", kl, one_of({"k1", "k2", "k3"}), "estimator of the KL");
  }
};

class Objective {
 public:
  virtual ~Objective() = default;
  virtual std::string name() const = 0;
  virtual LossTerms loss(const ObjectiveInput& input) const = 0;
};

/// PPO clip with asymmetric bounds, aggregation and KL as named.
std::unique_ptr<Objective> make_policy_gradient(const ObjectiveOptions& options);

}  // namespace plural
