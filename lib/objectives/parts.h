// SPDX-License-Identifier: Apache-2.0
// The pieces a policy-gradient loss is put together from. Each is a function of tensors in a file of its own;
// parts.cpp has the one list of names.
//
//   loss = sum over tokens of weight_t * ( -importance_t * surrogate(ratio_t, A_t) + beta * kl_t )
//          - c * mean over tokens of entropy_t
#pragma once

#include <string>

#include "plural/objective.h"

namespace plural {

/// pi / pi_old, [M], with gradient. On-policy value is exactly 1 and log exactly 0.
struct RatioTerms {
  Tensor log;
  Tensor value;
};

/// log of the ratio [M] with gradient.
using RatioPart = Tensor (*)(const ObjectiveInput& input);
Tensor token_log_ratio(const ObjectiveInput& input);
Tensor sequence_log_ratio(const ObjectiveInput& input);
Tensor sequence_token_log_ratio(const ObjectiveInput& input);

/// What a token earns [M], and where a bound takes its gradient away ([M] bool each; undefined = nowhere).
struct SurrogateTerms {
  Tensor value;
  Tensor clipped_low{}, clipped_high{};
};
using SurrogatePart = SurrogateTerms (*)(const RatioTerms& ratio, const ObjectiveInput& input,
                                         const ObjectiveOptions& options);
SurrogateTerms ppo_clip(const RatioTerms& ratio, const ObjectiveInput& input, const ObjectiveOptions& options);
SurrogateTerms cispo(const RatioTerms& ratio, const ObjectiveInput& input, const ObjectiveOptions& options);
SurrogateTerms sapo(const RatioTerms& ratio, const ObjectiveInput& input, const ObjectiveOptions& options);
SurrogateTerms gmpo(const RatioTerms& ratio, const ObjectiveInput& input, const ObjectiveOptions& options);
SurrogateTerms dppo_tv(const RatioTerms& ratio, const ObjectiveInput& input, const ObjectiveOptions& options);
SurrogateTerms vespo(const RatioTerms& ratio, const ObjectiveInput& input, const ObjectiveOptions& options);
SurrogateTerms reinforce(const RatioTerms& ratio, const ObjectiveInput& input, const ObjectiveOptions& options);

/// Weight of every token's loss, [M] or scalar []; a constant of the optimiser batch, whatever the cut. What tokens get
/// that do not count means nothing.
using AggregationPart = Tensor (*)(const ObjectiveInput& input);
Tensor dapo_weight(const ObjectiveInput& input);
Tensor grpo_weight(const ObjectiveInput& input);
Tensor dr_grpo_weight(const ObjectiveInput& input);
Tensor bnpo_weight(const ObjectiveInput& input);
Tensor luspo_weight(const ObjectiveInput& input);

/// Estimate of KL(p || q) per token [M] from log-probs of tokens drawn from p.
using KlPart = Tensor (*)(const Tensor& log_p, const Tensor& log_q);
Tensor kl_k1(const Tensor& log_p, const Tensor& log_q);
Tensor kl_k2(const Tensor& log_p, const Tensor& log_q);
Tensor kl_k3(const Tensor& log_p, const Tensor& log_q);

RatioPart find_ratio(const std::string& name);
SurrogatePart find_surrogate(const std::string& name);
AggregationPart find_aggregation(const std::string& name);
KlPart find_kl(const std::string& name);

/// log pi_old [M] without gradient: the current log-probs when on-policy.
Tensor old_log_prob(const ObjectiveInput& input);
/// Sum and mean over all tokens of a row of x [M], given back to each of them: [M].
Tensor row_sum(const Tensor& x, const ObjectiveInput& input);
Tensor row_mean(const Tensor& x, const ObjectiveInput& input);

/// pi_old / pi_sampler [M] within its bounds, no gradient (importance.cpp).
Tensor importance_weight(const ObjectiveInput& input, const ObjectiveOptions& options);
/// [M] bool: the tokens that importance_mode: mask, off_policy_threshold and top_entropy leave (masks.cpp).
Tensor counted_tokens(const MaskInput& input, const ObjectiveOptions& options);

/// Weights of the next step (controllers.cpp).
ObjectiveWeights first_weights(const ObjectiveOptions& options);
ObjectiveWeights controlled_weights(const ObjectiveWeights& now, const StepMeasure& seen,
                                    const ObjectiveOptions& options);

}  // namespace plural
