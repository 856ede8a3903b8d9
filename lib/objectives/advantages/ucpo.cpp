// SPDX-License-Identifier: Apache-2.0
// UCPO (arXiv 2605.00365): the correct rows of a group share their advantage evenly over what they say instead of over
// rows. The mass M = sum of the correct rows' r_i - mean is kept and dealt out again by
//   A_i = M [(1 - tau) / n+ + tau v_i / sum v];
// wrong rows keep theirs, and so do correct ones where M is negative (paid less than the wrong ones, for other
// reasons): dealt out, it would punish what is rare most. v_i is 1 / (correct rows of i's mode), so that tau = 1 pays
// every correct mode the same however often it was drawn; or, as published, 1 / exp(log p(y_i) / L_i), one over the
// likelihood a token: what the policy rarely writes gains most, and no modes need to be told apart.
#include <ATen/ATen.h>

#include <limits>

#include "lib/objectives/advantages/estimators.h"
#include "lib/objectives/advantages/groups.h"
#include "plural/error.h"

namespace plural {

namespace {

struct UcpoOptions {
  double tau = 0.5;
  std::string rarity = "mode";

  template <class V>
  void fields(V& v) {
    v.field("tau", tau, between(0, 1), "share of the correct rows' advantage that is dealt out by rarity");
    v.field("rarity", rarity, one_of({"mode", "likelihood"}),
            "v_i: one over the correct rows of the same mode, or over the likelihood a token");
  }
};

class Ucpo final : public AdvantageEstimator {
 public:
  explicit Ucpo(UcpoOptions options) : options_(std::move(options)) {}
  std::string name() const override { return "ucpo"; }

  AdvantageOutput estimate(const AdvantageInput& input) const override {
    const Groups groups = split_groups(input);
    const Tensor correct = correct_rows(input), right = correct.to(at::kDouble);
    const Tensor count = right.sum(1, true).clamp_min(1);
    const Tensor mass = (groups.centred * right).sum(1, true);
    // Where all rows are correct the sum is 0 but for rounding: there is nothing to deal out.
    const Tensor dealt_out = mass.gt(0).logical_and(
        is_rounding(mass, (groups.centred * right).abs().sum(1, true)).logical_not());
    const Tensor share = options_.rarity == "mode" ? share_by_mode(input, right) : share_by_likelihood(input, correct);
    const Tensor dealt = mass * ((1 - options_.tau) * right / count + options_.tau * share);
    return join_groups(groups, at::where(correct.logical_and(dealt_out), dealt, groups.centred));
  }

 private:
  // v_i / sum v over the correct rows of a group, [P, G]; 0 for wrong rows.
  static Tensor share_by_mode(const AdvantageInput& input, const Tensor& right) {
    const Tensor size = (same_mode(input).to(at::kDouble) * right.unsqueeze(1)).sum(2).clamp_min(1);
    const Tensor rare = right / size;
    return rare / rare.sum(1, true).clamp_min(1);  // the sum is the number of correct modes
  }
  static Tensor share_by_likelihood(const AdvantageInput& input, const Tensor& correct) {
    PLURAL_CHECK(input.sampler_log_prob.defined(), "ucpo by likelihood needs AdvantageInput::sampler_log_prob");
    check_shapes({{"total", input.total, "B"}, {"sampler_log_prob", input.sampler_log_prob, "B"}});
    const Tensor length = row_lengths(input).clamp_min(1);
    const Tensor surprisal = -input.sampler_log_prob.to(at::kDouble).view(length.sizes()) / length;
    // Proportional to 1 / likelihood: a softmax of the surprisal, over correct rows alone.
    const Tensor wrong = correct.logical_not();
    return surprisal.masked_fill(wrong, std::numeric_limits<double>::lowest()).softmax(1).masked_fill(wrong, 0.0);
  }

  UcpoOptions options_;
};

}  // namespace

void add_ucpo(Registry<AdvantageEstimator>& registry) {
  add_estimator<Ucpo, UcpoOptions>(registry, "ucpo", "correct rows share their advantage over what they say");
}

}  // namespace plural
