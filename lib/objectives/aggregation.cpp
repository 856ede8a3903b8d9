// SPDX-License-Identifier: Apache-2.0
// How token losses become one number (spec/objectives.md section 2). All are weighted sums whose weights
// come from counts of the whole optimiser batch, so the gradient does not depend on how the batch is cut.
#include <ATen/ATen.h>

#include "lib/objectives/parts.h"

namespace plural {

namespace {
Tensor constant(double value, const ObjectiveInput& input) {
  return at::scalar_tensor(value, input.log_prob.options());
}

/// [rows]: the tokens of each row that count.
Tensor counted_by_row(const ObjectiveInput& input) {
  if (!input.counted.defined()) return input.row_tokens;
  return at::zeros_like(input.row_tokens).index_add(0, input.row, input.counted.to(input.row_tokens.dtype()));
}
}  // namespace

// DAPO (2503.14476): mean over all tokens of the step. Long rows weigh more.
Tensor dapo_weight(const ObjectiveInput& input) { return constant(1.0 / input.counts.tokens, input); }

// GRPO (2402.03300): mean over rows of each row's token mean.
Tensor grpo_weight(const ObjectiveInput& input) {
  return (counted_by_row(input) * input.counts.rows).reciprocal().index_select(0, input.row);
}

// Dr.GRPO (2503.20783): a constant divisor, so a row's length changes nothing.
Tensor dr_grpo_weight(const ObjectiveInput& input) {
  return constant(1.0 / (input.counts.rows * input.counts.max_tokens), input);
}

// BNPO as in TRL: mean over the tokens of the local batch. TRL's local batch is what one device holds at a
// time; taken literally the loss would change with the memory at hand. Here it is all rows of the rank.
Tensor bnpo_weight(const ObjectiveInput& input) {
  return constant(1.0 / (input.counts.rank_tokens * input.counts.ranks), input);
}

// LUSPO: mean over rows of a row's loss times its length. With a ratio of the row every token has the row's loss, so
// that is the row's sum.
Tensor luspo_weight(const ObjectiveInput& input) { return constant(1.0 / input.counts.rows, input); }

}  // namespace plural
