// SPDX-License-Identifier: Apache-2.0
// DARLING (arXiv 2509.02534): quality times distinctness. A row's reward is scaled by how few rows of its group say the
// same, r_i x max(floor, (n - size_i) / (n - 1)); the advantage is that less the group mean, without std.
#include <ATen/ATen.h>

#include "lib/core/format.h"
#include "lib/objectives/advantages/estimators.h"
#include "lib/objectives/advantages/groups.h"
#include "plural/error.h"

namespace plural {

namespace {

struct DarlingOptions {
  double floor = 0.1;

  template <class V>
  void fields(V& v) {
    v.field("floor", floor, between(0, 1), "least factor, of a row that all others repeat");
  }
};

class Darling final : public AdvantageEstimator {
 public:
  explicit Darling(DarlingOptions options) : options_(options) {}
  std::string name() const override { return "darling"; }
  bool credits_equal_rewards() const override { return true; }

  AdvantageOutput estimate(const AdvantageInput& input) const override {
    const Groups groups = split_groups(input);
    if (groups.reward.lt(0).any().item<bool>())
      throw InputError(
          fmt::format("advantage 'darling' multiplies rewards by a factor below 1 for rows that others repeat, which "
                      "would favour repetitions of what is paid less than 0, got {}; use rewards of at least 0",
                      groups.reward.min().item<double>()));
    const double n = static_cast<double>(groups.size());
    if (groups.size() < 2) return join_groups(groups, groups.centred);
    const Tensor size = same_mode(input).sum(2).to(at::kDouble);
    const Tensor distinct = ((n - size) / (n - 1)).clamp_min(options_.floor);
    const Groups scaled = split_groups(input, (groups.reward * distinct).reshape({-1}));
    return join_groups(scaled, scaled.centred);
  }

 private:
  DarlingOptions options_;
};

}  // namespace

void add_darling(Registry<AdvantageEstimator>& registry) {
  add_estimator<Darling, DarlingOptions>(registry, "darling", "reward x distinctness within the group, less its mean");
}

}  // namespace plural
