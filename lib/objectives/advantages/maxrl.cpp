// SPDX-License-Identifier: Apache-2.0
// MaxRL (arXiv 2602.02710): A_i = (r_i - mean) / mean, 0 where the mean is 0. Rare successes count more: in expectation
// the gradient is that of log p cut after G - 1 terms of its series, [1 - (1 - p)^(G-1)] / p times grad p.
#include <ATen/ATen.h>

#include "lib/core/format.h"
#include "lib/objectives/advantages/estimators.h"
#include "lib/objectives/advantages/groups.h"
#include "plural/error.h"

namespace plural {

namespace {

class MaxRl final : public AdvantageEstimator {
 public:
  std::string name() const override { return "maxrl"; }

  AdvantageOutput estimate(const AdvantageInput& input) const override {
    const Groups groups = split_groups(input);
    if (groups.reward.lt(0).any().item<bool>())
      throw InputError(
          fmt::format("advantage 'maxrl' divides by the mean reward and needs rewards of at least 0, got {}; use "
                      "rewards that count successes, or advantage: rloo",
                      groups.reward.min().item<double>()));
    const Tensor mean = groups.reward.mean(1, true);
    return join_groups(groups, groups.centred / mean.masked_fill(mean.eq(0), 1.0));
  }
};

}  // namespace

void add_maxrl(Registry<AdvantageEstimator>& registry) {
  add_estimator<MaxRl>(registry, "maxrl", "(reward - group mean) / group mean");
}

}  // namespace plural
