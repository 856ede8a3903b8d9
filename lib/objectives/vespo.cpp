// SPDX-License-Identifier: Apache-2.0
// VESPO: A phi log pi with phi = exp(lambda + k log W - lambda W), W the ratio of the whole row (the product over its
// tokens) and (k, lambda) = (2, 3) for A >= 0, (3, 2) for A < 0. phi(1) = 1, and rows far off-policy fade out.
// Constants and clamps as in TRL.
#include <ATen/ATen.h>

#include <cmath>

#include "lib/objectives/parts.h"

namespace plural {

SurrogateTerms vespo(const RatioTerms& ratio, const ObjectiveInput& input, const ObjectiveOptions&) {
  constexpr double kLargestLog = 20;
  const Tensor& a = input.advantage;
  const Tensor log_w = row_sum(ratio.log.detach().clamp(-kLargestLog, kLargestLog), input)
                           .clamp(std::log(1e-8), kLargestLog);
  const Tensor k = at::where(a >= 0, at::full_like(a, 2.0), at::full_like(a, 3.0));
  const Tensor lambda = 5.0 - k;
  const Tensor phi = (lambda + k * log_w - lambda * log_w.exp()).exp();
  return {phi * a * input.log_prob};
}

}  // namespace plural
