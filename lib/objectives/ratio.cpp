// SPDX-License-Identifier: Apache-2.0
// pi / pi_old of a token, and GSPO's ratios of a whole row (arXiv 2507.18071).
#include <ATen/ATen.h>

#include "lib/objectives/parts.h"

namespace plural {

Tensor old_log_prob(const ObjectiveInput& input) {
  return (input.old_log_prob.defined() ? input.old_log_prob : input.log_prob).detach();
}

Tensor row_sum(const Tensor& x, const ObjectiveInput& input) {
  const Tensor sums = at::zeros_like(input.row_tokens).index_add(0, input.row, x);
  return sums.index_select(0, input.row);
}

Tensor row_mean(const Tensor& x, const ObjectiveInput& input) {
  return row_sum(x, input) / input.row_tokens.index_select(0, input.row);
}

// On-policy the value is exp(0) = 1 to the last bit, and the gradient is that of log_prob.
Tensor token_log_ratio(const ObjectiveInput& input) { return input.log_prob - old_log_prob(input); }

// GSPO, eq. 7: s = (pi(y) / pi_old(y))^(1 / L).
Tensor sequence_log_ratio(const ObjectiveInput& input) { return row_mean(token_log_ratio(input), input); }

// GSPO-token, eq. 14: sg(s) pi_t / sg(pi_t), the value of s with the gradient of the token.
Tensor sequence_token_log_ratio(const ObjectiveInput& input) {
  return sequence_log_ratio(input).detach() + (input.log_prob - input.log_prob.detach());
}

}  // namespace plural
