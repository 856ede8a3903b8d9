// SPDX-License-Identifier: Apache-2.0
// SetPO (arXiv 2602.01062): a group is worth its rewards and its diversity U(S) = mean_i g(mean_j k_ij), here with
// k_ij = 1 when two rows are of one mode; a row gets what it adds to U: D_i = U(S) - U(S without i).
//   A_i = (r_i - mean r) + lambda z_i (D_i - mean D)
// z_i (a row is correct) is the gate: without it rare wrong answers would be paid for being rare.
#include <ATen/ATen.h>

#include "lib/objectives/advantages/estimators.h"
#include "lib/objectives/advantages/groups.h"

namespace plural {

namespace {

struct SetPoOptions {
  double lambda = 1.0;
  std::string g = "log";
  bool gate = true;

  template <class V>
  void fields(V& v) {
    v.field("lambda", lambda, at_least(0), "weight of the diversity");
    v.field("g", g, one_of({"log", "linear"}), "of the mean similarity u: log = -ln(1 + u), linear = 1 - u");
    v.field("gate", gate, any_value(), "only correct rows are paid for diversity");
  }
};

class SetPo final : public AdvantageEstimator {
 public:
  explicit SetPo(SetPoOptions options) : options_(std::move(options)) {}
  std::string name() const override { return "setpo"; }
  bool credits_equal_rewards() const override { return true; }

  AdvantageOutput estimate(const AdvantageInput& input) const override {
    const Groups groups = split_groups(input);
    const Tensor kernel = same_mode(input).to(at::kDouble);  // [P, n, n]
    const double n = static_cast<double>(groups.size());
    if (groups.size() < 2) return join_groups(groups, groups.centred);
    const Tensor similar = kernel.sum(2);  // [P, n]
    const Tensor whole = value(similar / n).mean(1, true);
    // Without row i the others are similar to n - 1 rows, one less where they are of i's mode.
    const Tensor others = value((similar.unsqueeze(1) - kernel) / (n - 1));  // [P, i, j]
    const Tensor without = (others.sum(2) - others.diagonal(0, 1, 2)) / (n - 1);
    const Tensor credit = whole - without;
    Tensor diversity = options_.lambda * (credit - credit.mean(1, true));
    // One mode, or every row its own: there is nothing to tell rows apart by.
    const Tensor equal = (credit.amax(1, true) - credit.amin(1, true)) <= 1e-12;
    diversity = diversity.masked_fill(equal, 0.0);
    if (options_.gate) diversity = diversity * correct_rows(input).to(at::kDouble);
    return join_all(groups, groups.centred + diversity);
  }

 private:
  Tensor value(const Tensor& u) const { return options_.g == "log" ? -u.log1p() : 1.0 - u; }

  SetPoOptions options_;
};

}  // namespace

void add_setpo(Registry<AdvantageEstimator>& registry) {
  add_estimator<SetPo, SetPoOptions>(registry, "setpo", "reward plus what a row adds to the group's diversity");
}

}  // namespace plural
