// SPDX-License-Identifier: Apache-2.0
// ReMax (arXiv 2310.10505): the baseline of a prompt is what its greedy completion is paid. Unbiased, and it needs one
// more (greedy) completion of every prompt.
#include <ATen/ATen.h>

#include "lib/objectives/advantages/estimators.h"
#include "lib/objectives/advantages/groups.h"

namespace plural {

namespace {

class ReMax final : public AdvantageEstimator {
 public:
  std::string name() const override { return "remax"; }
  bool credits_equal_rewards() const override { return true; }
  bool needs_greedy() const override { return true; }

  AdvantageOutput estimate(const AdvantageInput& input) const override {
    const Groups groups = split_groups(input);
    check_shapes({{"groups", groups.varied, "P 1"}, {"greedy_total", input.greedy_total, "P"}});
    const Tensor baseline = input.greedy_total.to(at::kDouble).unsqueeze(1);
    const Tensor advantage = groups.reward - baseline;
    const Tensor equal = is_rounding(advantage, at::maximum(groups.reward.abs(), baseline.abs()));
    // A group that agrees with itself but not with the greedy completion does learn.
    return join_all(groups, advantage.masked_fill(equal, 0.0));
  }
};

}  // namespace

void add_remax(Registry<AdvantageEstimator>& registry) {
  add_estimator<ReMax>(registry, "remax", "reward - reward of the greedy completion");
}

}  // namespace plural
