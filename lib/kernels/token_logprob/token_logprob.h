// SPDX-License-Identifier: Apache-2.0
// The language-model head: ln p(target) and the entropy of each predicted distribution, straight from hidden
// states. The logits exist for one chunk of rows at a time, in forward and again in backward.
#pragma once

#include "plural/tensor.h"

namespace plural::kernels {

struct TokenLogprob {
  Tensor log_prob;  ///< [M] float32 (float64 for float64 inputs), nats
  Tensor entropy;   ///< [M] same dtype, nats; undefined when not asked
};

/// hidden [M, E], weight [V, E] (bfloat16, float32 or float64, both the same), target [M] int64 in [0, V).
/// Logits are divided by `temperature` > 0. Differentiable in hidden and weight, through log_prob and entropy.
/// Cost: one [M, E] x [E, V] product forward, three backward; memory: a chunk of logits of at most 64 MiB
/// (at least one row), and in backward a float32 [V, E] sum when there is more than one chunk.
TokenLogprob token_logprob(const Tensor& hidden, const Tensor& weight, const Tensor& target, double temperature,
                           bool with_entropy);

/// Logits of hidden states in the accuracy of the device's matrix product: [n, V], in the model's dtype on the
/// CPU. The one place where sampling and training get their logits.
Tensor head_logits(const Tensor& hidden, const Tensor& weight);

namespace detail {

/// What a chunk of logits says about its rows. logits [m, V] contiguous; the rest [m] in the compute type.
struct LogitStatistics {
  Tensor log_prob, log_sum, entropy;  // log_sum: ln sum exp(logit / temperature); entropy may be undefined
};
LogitStatistics logit_statistics(const Tensor& logits, const Tensor& target, double temperature, bool with_entropy);

/// Replaces logits [m, V] by the gradient of sum(grad_log_prob * log_prob + grad_entropy * entropy).
/// grad_entropy and entropy may be undefined.
void logit_gradient_(Tensor& logits, const Tensor& target, const Tensor& log_sum, const Tensor& entropy,
                     const Tensor& grad_log_prob, const Tensor& grad_entropy, double temperature);

/// The CPU loops behind the two functions above.
LogitStatistics logit_statistics_cpu(const Tensor& logits, const Tensor& target, double temperature, bool with_entropy);
void logit_gradient_cpu_(Tensor& logits, const Tensor& target, const Tensor& log_sum, const Tensor& entropy,
                         const Tensor& grad_log_prob, const Tensor& grad_entropy, double temperature);

}  // namespace detail
}  // namespace plural::kernels
