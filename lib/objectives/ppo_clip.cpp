// SPDX-License-Identifier: Apache-2.0
// PPO's clipped surrogate (arXiv 1707.06347, eq. 7) with DAPO's separate bounds (2503.14476, "clip-higher").
#include <ATen/ATen.h>

#include "lib/objectives/parts.h"

namespace plural {

Tensor ppo_clip(const Tensor& ratio, const ObjectiveInput& input, const ObjectiveOptions& options) {
  const Tensor clipped = ratio.clamp(1.0 - options.clip_low, 1.0 + options.clip_high);
  // Not at::min: on a tie (every token on-policy, every token inside the bounds) it would give the two
  // branches half of the gradient each. Both then carry the same gradient, except exactly on a bound, where
  // the unclipped branch is the one to follow.
  const Tensor free = ratio * input.advantage, bounded = clipped * input.advantage;
  return at::where(free <= bounded, free, bounded);
}

}  // namespace plural
