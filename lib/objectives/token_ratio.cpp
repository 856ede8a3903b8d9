// SPDX-License-Identifier: Apache-2.0
#include <ATen/ATen.h>

#include "lib/objectives/parts.h"

namespace plural {

Tensor token_ratio(const ObjectiveInput& input) {
  // On-policy the value is exp(0) = 1 to the last bit, and the gradient is that of log_prob.
  const Tensor old = input.old_log_prob.defined() ? input.old_log_prob : input.log_prob;
  return (input.log_prob - old.detach()).exp();
}

}  // namespace plural
