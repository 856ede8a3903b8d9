// SPDX-License-Identifier: Apache-2.0
// Schulman's estimators of KL(p || q) from samples of p; with d = log q - log p: k1 = -d (unbiased, noisy),
// k2 = d^2 / 2 (biased, gradient right on-policy), k3 = e^d - d - 1 (unbiased, never negative).
#include <ATen/ATen.h>

#include "lib/objectives/parts.h"

namespace plural {

Tensor kl_k1(const Tensor& log_p, const Tensor& log_q) { return log_p - log_q; }

Tensor kl_k2(const Tensor& log_p, const Tensor& log_q) { return 0.5 * (log_q - log_p).square(); }

Tensor kl_k3(const Tensor& log_p, const Tensor& log_q) {
  const Tensor d = log_q - log_p;
  return d.expm1() - d;  // expm1: no cancellation where the two are close
}

}  // namespace plural
