// SPDX-License-Identifier: Apache-2.0
// SAPO (arXiv 2511.20347): a soft gate in place of the clip, A (4 / tau) sigmoid(tau (ratio - 1)). Its slope is 1 at
// ratio 1 and falls off smoothly; negative advantages get a higher temperature.
#include <ATen/ATen.h>

#include "lib/objectives/parts.h"

namespace plural {

SurrogateTerms sapo(const RatioTerms& ratio, const ObjectiveInput& input, const ObjectiveOptions& options) {
  const Tensor& a = input.advantage;
  const Tensor tau = at::where(a > 0, at::full_like(a, options.tau_positive), at::full_like(a, options.tau_negative));
  return {a * (4 / tau) * (tau * (ratio.value - 1)).sigmoid()};
}

}  // namespace plural
