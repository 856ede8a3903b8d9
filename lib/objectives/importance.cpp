// SPDX-License-Identifier: Apache-2.0
// What sampler and trainer disagree on (other kernels, another precision, another machine) is put right by weighting a
// loss with pi_old / pi_sampler, bounded above ("truncated importance sampling").
#include <ATen/ATen.h>

#include "lib/objectives/parts.h"

namespace plural {

Tensor importance_weight(const ObjectiveInput& input, const ObjectiveOptions& options) {
  Tensor log_weight = old_log_prob(input) - input.sampler_log_prob.detach();
  if (options.importance == "sequence") log_weight = row_sum(log_weight, input);
  return log_weight.exp().clamp(options.importance_floor, options.importance_cap);
}

}  // namespace plural
