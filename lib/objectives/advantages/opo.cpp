// SPDX-License-Identifier: Apache-2.0
// OPO (arXiv 2505.23585): the baseline of least variance when a row's gradient grows with its length, the mean of the
// group weighted by lengths: A_i = r_i - sum_j L_j r_j / sum_j L_j.
#include <ATen/ATen.h>

#include "lib/objectives/advantages/estimators.h"
#include "lib/objectives/advantages/groups.h"

namespace plural {

namespace {

class Opo final : public AdvantageEstimator {
 public:
  std::string name() const override { return "opo"; }

  AdvantageOutput estimate(const AdvantageInput& input) const override {
    const Groups groups = split_groups(input);
    const Tensor length = row_lengths(input);
    const Tensor baseline = (length * groups.reward).sum(1, true) / length.sum(1, true).clamp_min(1.0);
    return join_groups(groups, groups.reward - baseline);
  }
};

}  // namespace

void add_opo(Registry<AdvantageEstimator>& registry) {
  add_estimator<Opo>(registry, "opo", "reward - mean of the group weighted by lengths");
}

}  // namespace plural
