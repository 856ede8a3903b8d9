// SPDX-License-Identifier: Apache-2.0
// The pieces a policy-gradient loss is put together from. Each is a function of tensors in a file of its own;
// parts.cpp has the one list of names.
//
//   loss = sum over tokens of weight_t * ( -surrogate(ratio_t, A_t) + beta * kl_t )
#pragma once

#include <string>

#include "plural/objective.h"

namespace plural {

/// pi / pi_old [M] with gradient; exactly 1 on-policy.
using RatioPart = Tensor (*)(const ObjectiveInput& input);
Tensor token_ratio(const ObjectiveInput& input);

/// What a token earns [M], from ratio [M] and input.advantage [M].
using SurrogatePart = Tensor (*)(const Tensor& ratio, const ObjectiveInput& input, const ObjectiveOptions& options);
Tensor ppo_clip(const Tensor& ratio, const ObjectiveInput& input, const ObjectiveOptions& options);

/// Weight of every token's loss, [M] or scalar []; a constant of the optimiser batch, whatever the cut.
using AggregationPart = Tensor (*)(const ObjectiveInput& input);
Tensor dapo_weight(const ObjectiveInput& input);
Tensor grpo_weight(const ObjectiveInput& input);
Tensor dr_grpo_weight(const ObjectiveInput& input);
Tensor bnpo_weight(const ObjectiveInput& input);

/// Estimate of KL(p || q) per token [M] from log-probs of tokens drawn from p.
using KlPart = Tensor (*)(const Tensor& log_p, const Tensor& log_q);
Tensor kl_k1(const Tensor& log_p, const Tensor& log_q);
Tensor kl_k2(const Tensor& log_p, const Tensor& log_q);
Tensor kl_k3(const Tensor& log_p, const Tensor& log_q);

AggregationPart find_aggregation(const std::string& name);
KlPart find_kl(const std::string& name);

}  // namespace plural
