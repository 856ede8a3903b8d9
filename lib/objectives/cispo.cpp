// SPDX-License-Identifier: Apache-2.0
// CISPO (MiniMax-M1, arXiv 2506.13585): sg(clip(ratio)) A log pi. The clip bounds a token's weight, never its
// gradient's being there: rare tokens that a reflection begins with keep learning.
#include <ATen/ATen.h>

#include "lib/objectives/parts.h"

namespace plural {

SurrogateTerms cispo(const RatioTerms& ratio, const ObjectiveInput& input, const ObjectiveOptions& options) {
  const Tensor weight = ratio.value.detach().clamp(1.0 - options.clip_low, 1.0 + options.clip_high);
  return {weight * input.advantage * input.log_prob};
}

}  // namespace plural
