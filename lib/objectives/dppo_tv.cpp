// SPDX-License-Identifier: Apache-2.0
// DPPO with total variation (arXiv 2602.04879): A sg(min(ratio, 20)) log pi, kept while the token's probability has
// moved by no more than the bound in the direction that earns: pi - pi_old <= clip_high for A > 0, >= -clip_low for A
// <= 0. A ratio says little about rare tokens: 1e-5 to 1e-4 is tenfold and moves nothing.
#include <ATen/ATen.h>

#include "lib/objectives/parts.h"

namespace plural {

SurrogateTerms dppo_tv(const RatioTerms& ratio, const ObjectiveInput& input, const ObjectiveOptions& options) {
  constexpr double kLargestRatio = 20;
  const Tensor& a = input.advantage;
  const Tensor moved = input.log_prob.detach().exp() - old_log_prob(input).exp();
  SurrogateTerms terms;
  terms.clipped_low = a.le(0).logical_and(moved < -options.clip_low);
  terms.clipped_high = a.gt(0).logical_and(moved > options.clip_high);
  const Tensor kept = terms.clipped_low.logical_or(terms.clipped_high).logical_not();
  terms.value = kept * ratio.value.detach().clamp_max(kLargestRatio) * a * input.log_prob;
  return terms;
}

}  // namespace plural
