// SPDX-License-Identifier: Apache-2.0
#include "lib/objectives/advantages/groups.h"

#include <ATen/ATen.h>

#include "lib/core/format.h"
#include "plural/error.h"

namespace plural {

namespace {
const AnswerBatch& answers_of(const AdvantageInput& input, const char* field) {
  PLURAL_CHECK(input.answers != nullptr, fmt::format("this advantage needs AdvantageInput::{} or the answers", field));
  return *input.answers;
}

Tensor as_groups(const AdvantageInput& input, const Tensor& rows) { return rows.view({-1, input.samples_per_prompt}); }
}  // namespace

Groups split_groups(const AdvantageInput& input) { return split_groups(input, input.total); }

Groups split_groups(const AdvantageInput& input, const Tensor& reward) {
  check_shapes({{"total", input.total, "B"}, {"reward", reward, "B"}, {"per_answer", input.per_answer, "B K", true}});
  const int64_t rows = reward.size(0), group = input.samples_per_prompt;
  PLURAL_CHECK(group >= 1 && rows % group == 0,
               fmt::format("{} rows do not split into groups of samples_per_prompt = {}", rows, group));
  Groups groups;
  groups.dtype = input.total.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  groups.reward = as_groups(input, reward.to(at::kDouble));
  const Tensor largest = groups.reward.amax(1, true), smallest = groups.reward.amin(1, true);
  groups.varied = is_rounding(largest - smallest, at::maximum(largest.abs(), smallest.abs())).logical_not();
  groups.centred = (groups.reward - groups.reward.mean(1, true)).masked_fill(groups.varied.logical_not(), 0.0);
  return groups;
}

// Totals are sums of float32 terms: two rows with the same terms in exact arithmetic may differ in the last
// bits. Such a difference must not become an advantage (promise 4), least of all after division by a std.
Tensor is_rounding(const Tensor& difference, const Tensor& size) {
  const Tensor tolerance = 1e-6 * size.clamp_min(1.0);
  return (difference.abs() <= tolerance).logical_and(tolerance.isfinite());
}

AdvantageOutput join_groups(const Groups& groups, const Tensor& advantage) {
  return join_all(groups, advantage.masked_fill(groups.varied.logical_not(), 0.0));
}

AdvantageOutput join_all(const Groups& groups, const Tensor& advantage) {
  return {advantage.reshape({-1}).to(groups.dtype)};
}

Tensor group_std(const Tensor& reward, bool unbiased) {
  if (reward.size(1) < 2) return at::zeros({reward.size(0), 1}, reward.options());
  return reward.std(1, unbiased, /*keepdim=*/true);
}

Tensor batch_std(const Tensor& reward) { return reward.numel() < 2 ? at::zeros({}, reward.options()) : reward.std(); }

Tensor correct_rows(const AdvantageInput& input) {
  if (input.correct.defined()) return as_groups(input, input.correct);
  return as_groups(input, answers_of(input, "correct").match.ge(0).any(1));
}

Tensor row_modes(const AdvantageInput& input) {
  if (input.mode.defined()) return as_groups(input, input.mode);
  return as_groups(input, completion_modes(answers_of(input, "mode"), input.samples_per_prompt));
}

Tensor same_mode(const AdvantageInput& input) {
  const Tensor modes = row_modes(input);
  return modes.unsqueeze(2).eq(modes.unsqueeze(1));
}

Tensor row_lengths(const AdvantageInput& input) {
  const Tensor& length = input.length.defined() ? input.length : answers_of(input, "length").length;
  return as_groups(input, length.to(at::kDouble));
}

double choose(int64_t n, int64_t k) {
  if (k < 0 || k > n) return 0.0;
  k = std::min(k, n - k);
  double result = 1.0;
  for (int64_t i = 1; i <= k; ++i) result = result * static_cast<double>(n - k + i) / static_cast<double>(i);
  return result;
}

void check_subset_size(const char* name, int64_t k, int64_t samples_per_prompt, const char* otherwise) {
  if (otherwise != nullptr && k == samples_per_prompt)
    throw InputError(
        fmt::format("{} = {} is all samples of a prompt: there is one such subset, every row is in it, and all "
                    "advantages are 0; expected less than samples_per_prompt{}",
                    name, k, otherwise));
  if (k <= samples_per_prompt) return;
  throw InputError(
      fmt::format("{} = {}, but there are only {} samples of a prompt to choose from; expected at most "
                  "samples_per_prompt",
                  name, k, samples_per_prompt));
}

}  // namespace plural
