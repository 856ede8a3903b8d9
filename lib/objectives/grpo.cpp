// SPDX-License-Identifier: Apache-2.0
// GRPO (arXiv 2402.03300) and its variants without std (Dr.GRPO, 2503.20783) and with the batch's std.
#include <ATen/ATen.h>

#include "lib/objectives/estimators.h"
#include "lib/objectives/groups.h"

namespace plural {

namespace {

constexpr double kEps = 1e-4;  // added to every std, as TRL does (spec/official_rewards.md 5.3)

struct GrpoOptions {
  std::string scale = "none";
  double std_floor = 0.0;

  template <class V>
  void fields(V& v) {
    v.field("scale", scale, one_of({"none", "group", "batch"}),
            "what reward - group mean is divided by: nothing, the group's std or the batch's std (n - 1 divisor)");
    v.field("std_floor", std_floor, at_least(0), "a smaller std counts as this one");
  }
};

class Grpo final : public AdvantageEstimator {
 public:
  explicit Grpo(GrpoOptions options) : options_(std::move(options)) {}
  std::string name() const override { return "grpo"; }

  AdvantageOutput estimate(const AdvantageInput& input) const override {
    const Groups groups = split_groups(input);
    if (options_.scale == "none" || groups.reward.numel() < 2) return join_groups(groups, groups.centred);
    // The std of a group of one is not defined; such a group is all-equal and ends as 0.
    const Tensor std = options_.scale == "batch"   ? groups.reward.std()
                       : groups.reward.size(1) < 2 ? at::zeros_like(groups.reward)
                                                   : groups.reward.std(1, /*unbiased=*/true, /*keepdim=*/true);
    return join_groups(groups, groups.centred / (std.clamp_min(options_.std_floor) + kEps));
  }

 private:
  GrpoOptions options_;
};

}  // namespace

void add_grpo(Registry<AdvantageEstimator>& registry) {
  add_estimator<Grpo, GrpoOptions>(registry, "grpo", "reward - group mean, optionally over a std");
}

}  // namespace plural
