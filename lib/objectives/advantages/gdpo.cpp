// SPDX-License-Identifier: Apache-2.0
// GDPO (arXiv 2601.05242): every reward is normalised within its group by itself, so that no part drowns in the scale
// of another; the weighted sum is then divided by its std over the batch.
//   A = S / (std(S) + eps),  S = sum_d w_d (r_d - mean_d) / (std_d + eps)
// S has mean 0 in every group, so whitening has no mean to take off.
#include <ATen/ATen.h>

#include "lib/objectives/advantages/estimators.h"
#include "lib/objectives/advantages/groups.h"

namespace plural {

namespace {

struct GdpoOptions {
  double std_floor = 0.0;
  bool whiten = true;

  template <class V>
  void fields(V& v) {
    v.field("std_floor", std_floor, at_least(0), "a smaller std of a reward within its group counts as this one");
    v.field("whiten", whiten, any_value(), "divide the sum by its std over the batch");
  }
};

class Gdpo final : public AdvantageEstimator {
 public:
  explicit Gdpo(GdpoOptions options) : options_(options) {}
  std::string name() const override { return "gdpo"; }
  bool credits_equal_rewards() const override { return true; }

  AdvantageOutput estimate(const AdvantageInput& input) const override {
    check_shapes({{"total", input.total, "B"},
                  {"part", input.part, "B D"},
                  {"part_valid", input.part_valid, "B D", true},
                  {"part_weight", input.part_weight, "D"}});
    const Groups groups = split_groups(input);
    const Tensor weight = input.part_weight.to(at::kCPU, at::kDouble);
    Tensor sum = at::zeros_like(groups.reward);
    for (int64_t d = 0; d < input.part.size(1); ++d) {
      const Tensor value = input.part.select(1, d).to(at::kDouble).view(groups.reward.sizes());
      const Tensor valid = input.part_valid.defined() ? input.part_valid.select(1, d).view(value.sizes())
                                                      : at::ones_like(value, at::kBool);
      sum = sum + weight[d].item<double>() * normalised(input, value, valid);
    }
    if (options_.whiten) sum = sum / (batch_std(sum) + kStdEps);
    return join_all(groups, sum);
  }

 private:
  // [P, G] over the rows that the reward applies to; the others get 0.
  Tensor normalised(const AdvantageInput& input, const Tensor& value, const Tensor& valid) const {
    const Tensor count = valid.sum(1, true);
    const Tensor mean = (value * valid).sum(1, true) / count.clamp_min(1);
    // Put at the mean, the other rows change neither the mean nor whether the group varies.
    const Tensor centred = split_groups(input, at::where(valid, value, mean).reshape({-1})).centred * valid;
    const Tensor std = (centred.square().sum(1, true) / (count - 1).clamp_min(1)).sqrt();
    return centred / (std.clamp_min(options_.std_floor) + kStdEps);
  }

  GdpoOptions options_;
};

}  // namespace

void add_gdpo(Registry<AdvantageEstimator>& registry) {
  add_estimator<Gdpo, GdpoOptions>(registry, "gdpo", "each reward normalised within its group, then added");
}

}  // namespace plural
