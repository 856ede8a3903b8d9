// SPDX-License-Identifier: Apache-2.0
// REINFORCE++ (arXiv 2501.03262): the discounted return of every token, whitened over all tokens of the batch; and its
// baseline form, where the group mean is taken off first.
#include <ATen/ATen.h>

#include "lib/objectives/advantages/estimators.h"
#include "lib/objectives/advantages/groups.h"

namespace plural {

namespace {

struct ReinforcePpOptions {
  std::string baseline = "none";
  double gamma = 1.0;
  double std_floor = 0.0;

  template <class V>
  void fields(V& v) {
    v.field("baseline", baseline, one_of({"none", "group"}),
            "taken off the reward before whitening: nothing or its group's mean");
    v.field("gamma", gamma, between(0, 1), "discount of a token that is t tokens before the end: gamma^t");
    v.field("std_floor", std_floor, at_least(0), "a smaller std counts as this one");
  }
};

class ReinforcePp final : public AdvantageEstimator {
 public:
  explicit ReinforcePp(ReinforcePpOptions options) : options_(std::move(options)) {}
  std::string name() const override { return "reinforce_pp"; }
  bool credits_equal_rewards() const override { return options_.baseline == "none"; }
  bool per_token() const override { return options_.gamma < 1; }

  AdvantageOutput estimate(const AdvantageInput& input) const override {
    const Groups groups = split_groups(input);
    const Tensor row_return = (options_.baseline == "group" ? groups.centred : groups.reward).reshape({-1});
    const Tensor length = row_lengths(input).reshape({-1}).to(at::kLong);
    const Tensor row = at::repeat_interleave(length);
    const Tensor left = (length.cumsum(0) - 1).index_select(0, row) - at::arange(row.size(0), row.options());
    const Tensor discount = at::pow(options_.gamma, left.to(at::kDouble));
    const Tensor token = row_return.index_select(0, row) * discount;  // [M]
    // Rewards that are all equal are no news, whatever rounding makes of their std.
    const bool equal = options_.baseline == "group" ? groups.varied.logical_not().all().item<bool>()
                                                    : all_equal(groups);
    const auto whiten = [&](const Tensor& x) {
      if (equal || token.numel() < 2) return at::zeros_like(x);
      return (x - token.mean()) / (token.std().clamp_min(options_.std_floor) + kStdEps);
    };
    AdvantageOutput output = join_all(groups, whiten(row_return));
    if (per_token()) output.token = whiten(token).to(groups.dtype);
    return output;
  }

 private:
  static bool all_equal(const Groups& groups) {
    const Tensor low = groups.reward.min(), high = groups.reward.max();
    return is_rounding(high - low, at::maximum(low.abs(), high.abs())).item<bool>();
  }

  ReinforcePpOptions options_;
};

}  // namespace

void add_reinforce_pp(Registry<AdvantageEstimator>& registry) {
  add_estimator<ReinforcePp, ReinforcePpOptions>(registry, "reinforce_pp",
                                                 "discounted return, whitened over the tokens of the batch");
}

}  // namespace plural
