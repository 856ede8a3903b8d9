// SPDX-License-Identifier: Apache-2.0
// GRPO (arXiv 2402.03300) and its variants without std (Dr.GRPO, 2503.20783) and with the batch's std.
#include <ATen/ATen.h>

#include "lib/objectives/advantages/estimators.h"
#include "lib/objectives/advantages/groups.h"

namespace plural {

namespace {

struct GrpoOptions {
  std::string scale = "none";
  std::string divisor = "n_minus_1";
  double std_floor = 0.0;

  template <class V>
  void fields(V& v) {
    v.field("scale", scale, one_of({"none", "group", "batch"}),
            "what reward - group mean is divided by: nothing, the group's std or the batch's std");
    v.field("divisor", divisor, one_of({"n_minus_1", "n"}), "divisor of the group's std");
    v.field("std_floor", std_floor, at_least(0), "a smaller std counts as this one");
  }
};

class Grpo final : public AdvantageEstimator {
 public:
  explicit Grpo(GrpoOptions options) : options_(std::move(options)) {}
  std::string name() const override { return "grpo"; }

  AdvantageOutput estimate(const AdvantageInput& input) const override {
    const Groups groups = split_groups(input);
    if (options_.scale == "none") return join_groups(groups, groups.centred);
    const Tensor std = options_.scale == "batch" ? batch_std(groups.reward)
                                                 : group_std(groups.reward, options_.divisor == "n_minus_1");
    return join_groups(groups, groups.centred / (std.clamp_min(options_.std_floor) + kStdEps));
  }

 private:
  GrpoOptions options_;
};

}  // namespace

void add_grpo(Registry<AdvantageEstimator>& registry) {
  add_estimator<Grpo, GrpoOptions>(registry, "grpo", "reward - group mean, optionally over a std");
}

}  // namespace plural
