// SPDX-License-Identifier: Apache-2.0
// Which tokens count. Decided over the whole optimiser batch before any loss, so that normalisers are counted after it.
#include <ATen/ATen.h>

#include "lib/objectives/parts.h"

namespace plural {

namespace {

Tensor sum_by_row(const Tensor& x, const MaskInput& input) {
  return at::zeros({input.rows}, x.options()).index_add(0, input.row, x);
}
Tensor mean_by_row(const Tensor& x, const MaskInput& input) {
  return sum_by_row(x, input) / sum_by_row(at::ones_like(x), input).clamp_min(1);
}

// A weight pi_old / pi_sampler within its bounds, of the token or of its row.
Tensor importance_mask(const MaskInput& input, const ObjectiveOptions& options) {
  const Tensor log_weight = input.old_log_prob - input.sampler_log_prob;
  const auto within = [&](const Tensor& x) {
    const Tensor weight = x.exp();
    return weight.ge(options.importance_floor).logical_and(weight.le(options.importance_cap));
  };
  if (options.importance == "token") return within(log_weight);
  return within(sum_by_row(log_weight, input)).index_select(0, input.row);
}

// DeepSeek-V3.2: a row that is pushed down and that the policy has already left teaches little but noise.
Tensor off_policy_mask(const MaskInput& input, double threshold) {
  const Tensor left = mean_by_row(input.sampler_log_prob - input.log_prob, input) > threshold;
  const Tensor pushed_down = mean_by_row(input.advantage, input) < 0;
  return left.logical_and(pushed_down).logical_not().index_select(0, input.row);
}

// "80/20" (arXiv 2506.01939): the tokens at which the policy chooses.
Tensor top_entropy_mask(const MaskInput& input, double share) {
  return input.entropy >= at::quantile(input.entropy.to(at::kDouble), 1.0 - share).to(input.entropy.dtype());
}

}  // namespace

Tensor counted_tokens(const MaskInput& input, const ObjectiveOptions& options) {
  check_shapes({{"log_prob", input.log_prob, "M"},
                {"old_log_prob", input.old_log_prob, "M"},
                {"sampler_log_prob", input.sampler_log_prob, "M"},
                {"entropy", input.entropy, "M"},
                {"advantage", input.advantage, "M"},
                {"row", input.row, "M"}});
  Tensor counted = at::ones_like(input.row, at::kBool);
  if (input.row.size(0) == 0) return counted;
  if (options.importance != "none" && options.importance_mode == "mask")
    counted = counted.logical_and(importance_mask(input, options));
  if (options.off_policy_threshold > 0)
    counted = counted.logical_and(off_policy_mask(input, options.off_policy_threshold));
  if (options.top_entropy < 1) counted = counted.logical_and(top_entropy_mask(input, options.top_entropy));
  return counted;
}

}  // namespace plural
