// SPDX-License-Identifier: Apache-2.0
#include "lib/objectives/groups.h"

#include <ATen/ATen.h>

#include "lib/core/format.h"
#include "plural/error.h"

namespace plural {

namespace {
// Totals are sums of float32 terms: two rows with the same terms in exact arithmetic may differ in the last
// bits. Such a difference must not become an advantage (promise 4), least of all after division by a std.
constexpr double kRounding = 1e-6;
}  // namespace

Groups split_groups(const AdvantageInput& input) {
  check_shapes({{"total", input.total, "B"}, {"per_answer", input.per_answer, "B K", true}});
  const int64_t rows = input.total.size(0), group = input.samples_per_prompt;
  PLURAL_CHECK(group >= 1 && rows % group == 0,
               fmt::format("{} rows do not split into groups of samples_per_prompt = {}", rows, group));
  Groups groups;
  groups.reward = input.total.to(at::kDouble).view({-1, group});
  const Tensor largest = groups.reward.amax(1, true), smallest = groups.reward.amin(1, true);
  const Tensor scale = at::maximum(largest.abs(), smallest.abs()).clamp_min(1.0);
  // "not <=" keeps groups with NaN: a broken reward must show in the loss, not vanish.
  groups.varied = (largest - smallest <= kRounding * scale).logical_not();
  groups.centred = (groups.reward - groups.reward.mean(1, true)).masked_fill(groups.varied.logical_not(), 0.0);
  return groups;
}

AdvantageOutput join_groups(const Groups& groups, const Tensor& advantage) {
  return {advantage.masked_fill(groups.varied.logical_not(), 0.0).reshape({-1}).to(at::kFloat)};
}

}  // namespace plural
