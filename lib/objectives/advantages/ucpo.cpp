// SPDX-License-Identifier: Apache-2.0
// UCPO: the correct rows of a group share their advantage evenly over modes instead of rows. The mass M = sum of the
// correct rows' r_i - mean is kept and dealt out again by
//   A_i = M [(1 - tau) / n+ + tau v_i / sum v],  v_i = 1 / (correct rows of i's mode);
// wrong rows keep theirs, and so do correct ones where M is negative (paid less than the wrong ones, for other
// reasons): dealt out by mode, it would punish the rare modes most. tau = 1 pays every correct mode the same, however
// often it was drawn.
#include <ATen/ATen.h>

#include "lib/objectives/advantages/estimators.h"
#include "lib/objectives/advantages/groups.h"

namespace plural {

namespace {

struct UcpoOptions {
  double tau = 0.5;

  template <class V>
  void fields(V& v) {
    v.field("tau", tau, between(0, 1), "share of the correct rows' advantage that is dealt out by mode");
  }
};

class Ucpo final : public AdvantageEstimator {
 public:
  explicit Ucpo(UcpoOptions options) : options_(options) {}
  std::string name() const override { return "ucpo"; }

  AdvantageOutput estimate(const AdvantageInput& input) const override {
    const Groups groups = split_groups(input);
    const Tensor correct = correct_rows(input), right = correct.to(at::kDouble);
    const Tensor count = right.sum(1, true).clamp_min(1);
    const Tensor mass = (groups.centred * right).sum(1, true);
    const Tensor size = (same_mode(input).to(at::kDouble) * right.unsqueeze(1)).sum(2).clamp_min(1);
    const Tensor rare = right / size;
    const Tensor by_mode = rare / rare.sum(1, true).clamp_min(1);
    const Tensor dealt = mass * ((1 - options_.tau) * right / count + options_.tau * by_mode);
    return join_groups(groups, at::where(correct.logical_and(mass > 0), dealt, groups.centred));
  }

 private:
  UcpoOptions options_;
};

}  // namespace

void add_ucpo(Registry<AdvantageEstimator>& registry) {
  add_estimator<Ucpo, UcpoOptions>(registry, "ucpo", "correct rows share their advantage over modes");
}

}  // namespace plural
