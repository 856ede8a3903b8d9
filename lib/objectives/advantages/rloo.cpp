// SPDX-License-Identifier: Apache-2.0
// RLOO (arXiv 2402.14740): the baseline of a row is the mean of the other rows of its group, which makes it
// unbiased: A_i = r_i - mean_{j != i} r_j = G/(G-1) (r_i - group mean).
#include <ATen/ATen.h>

#include "lib/objectives/advantages/estimators.h"
#include "lib/objectives/advantages/groups.h"

namespace plural {

namespace {

class Rloo final : public AdvantageEstimator {
 public:
  std::string name() const override { return "rloo"; }

  AdvantageOutput estimate(const AdvantageInput& input) const override {
    const Groups groups = split_groups(input);
    const double g = static_cast<double>(groups.reward.size(1));
    return join_groups(groups, groups.centred * (g / std::max(1.0, g - 1.0)));
  }
};

}  // namespace

void add_rloo(Registry<AdvantageEstimator>& registry) {
  add_estimator<Rloo>(registry, "rloo", "reward - mean of the group's other rows");
}

}  // namespace plural
