// SPDX-License-Identifier: Apache-2.0
// GMPO (arXiv 2507.20673): A exp(mean over the row of l_t), l_t = log ratio, cut on the side that would go on earning:
// above clip_high for A > 0, below -clip_low for A < 0. The bounds are in log space; the paper uses 0.4 for both.
#include <ATen/ATen.h>

#include "lib/objectives/parts.h"

namespace plural {

SurrogateTerms gmpo(const RatioTerms& ratio, const ObjectiveInput& input, const ObjectiveOptions& options) {
  const Tensor& a = input.advantage;
  const Tensor bounded = at::where(a > 0, ratio.log.clamp_max(options.clip_high),
                                   ratio.log.clamp_min(-options.clip_low));
  SurrogateTerms terms;
  terms.value = a * row_mean(bounded, input).exp();
  terms.clipped_low = (ratio.log < -options.clip_low).logical_and(a < 0);
  terms.clipped_high = (ratio.log > options.clip_high).logical_and(a > 0);
  return terms;
}

}  // namespace plural
