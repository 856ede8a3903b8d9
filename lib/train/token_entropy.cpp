// SPDX-License-Identifier: Apache-2.0
#include "lib/train/token_entropy.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "lib/train/micro_batches.h"

namespace plural {

Tensor token_entropy(Policy& policy, std::span<const PackRow> rows, double temperature, int64_t max_batch_tokens) {
  const at::NoGradGuard no_grad;
  size_t longest = 0;
  for (const PackRow& row : rows) longest = std::max(longest, row.completion.size());
  const auto width = static_cast<int64_t>(longest);
  Tensor entropy = at::zeros({static_cast<int64_t>(rows.size()), width}, at::device(policy.device()).dtype(at::kFloat));
  const Tensor index = at::arange(width, entropy.options()).unsqueeze(0);
  for (const Span& run : cut_rows(rows, max_batch_tokens)) {
    const MicroBatch micro = pack_micro_batch(rows, run, policy.device());
    if (micro.batch.predictions() == 0) continue;
    const PolicyOutput out = policy.evaluate(micro.batch, {.temperature = temperature, .entropy = true});
    // Predictions stand row by row, so they fill the places of each row's tokens in order.
    entropy.narrow(0, run.begin, run.end - run.begin)
        .masked_scatter_(index < micro.row_tokens.unsqueeze(1), out.entropy.to(at::kFloat));
  }
  return entropy;
}

}  // namespace plural
