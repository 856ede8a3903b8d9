// SPDX-License-Identifier: Apache-2.0
// PPO's clipped surrogate (arXiv 1707.06347, eq. 7) with DAPO's separate bounds (2503.14476, "clip-higher"), the dual
// clip (1912.09729, eq. 5) and a cap on the unclipped ratio (TRL's delta).
#include <ATen/ATen.h>

#include "lib/objectives/parts.h"

namespace plural {

SurrogateTerms ppo_clip(const RatioTerms& ratio, const ObjectiveInput& input, const ObjectiveOptions& options) {
  const Tensor& a = input.advantage;
  const Tensor capped = options.ratio_cap > 0 ? ratio.value.clamp_max(options.ratio_cap) : ratio.value;
  const Tensor clipped = ratio.value.clamp(1.0 - options.clip_low, 1.0 + options.clip_high);
  // Not at::min: on a tie (every token on-policy, every token inside the bounds) it would give the two
  // branches half of the gradient each. Both then carry the same gradient, except exactly on a bound, where
  // the unclipped branch is the one to follow.
  const Tensor free = capped * a, bounded = clipped * a;
  SurrogateTerms terms;
  terms.value = at::where(free <= bounded, free, bounded);
  if (options.dual_clip > 0) {
    const Tensor worst = options.dual_clip * a;
    terms.value = at::where(a.lt(0).logical_and(terms.value < worst), worst, terms.value);
  }
  // Only where the clip takes the gradient away: the other side of each bound is not clipped.
  terms.clipped_low = (ratio.value < 1.0 - options.clip_low).logical_and(a < 0);
  terms.clipped_high = (ratio.value > 1.0 + options.clip_high).logical_and(a > 0);
  return terms;
}

}  // namespace plural
