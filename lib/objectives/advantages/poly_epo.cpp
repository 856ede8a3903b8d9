// SPDX-License-Identifier: Apache-2.0
// Poly-EPO (arXiv 2604.17654): a set of m of the n samples is worth its mean reward times its share of different
// strategies, F(S) = mean_{i in S} r_i x (modes in S) / m; a row gets A_i = mean over the sets with it of F(S) - mean
// over all sets. In expectation that is (n - m) / m times the gradient of E[F(y_1 .. y_m)].
//
// The sums over all C(n, m) sets are counted, not enumerated: S with i and j hits mode c in all C(n-t, m-t) cases when
// i or j is of mode c, else in C(n-t, m-t) - C(n-t-n_c, m-t), with t = 2 (1 when i = j) and n_c rows of mode c.
#include <ATen/ATen.h>

#include "lib/objectives/advantages/estimators.h"
#include "lib/objectives/advantages/groups.h"

namespace plural {

namespace {

struct PolyEpoOptions {
  int64_t subset = 4;

  template <class V>
  void fields(V& v) {
    v.field("subset", subset, at_least(1), "m: samples in a set; at most samples_per_prompt");
  }
};

class PolyEpo final : public AdvantageEstimator {
 public:
  explicit PolyEpo(PolyEpoOptions options) : options_(options) {}
  std::string name() const override { return "poly_epo"; }
  bool credits_equal_rewards() const override { return true; }
  void check_sizes(int64_t samples_per_prompt, int64_t) const override {
    check_subset_size("advantage 'poly_epo': subset", options_.subset, samples_per_prompt, "");
  }

  AdvantageOutput estimate(const AdvantageInput& input) const override {
    const Groups groups = split_groups(input);
    check_subset_size("advantage 'poly_epo': subset", options_.subset, groups.size());
    const int64_t n = groups.size(), m = options_.subset;
    const Tensor same = same_mode(input);  // [P, n, n]
    const Tensor size = same.sum(2);       // [P, n]
    // Rows of unreadable completions are in the sets, but are no mode. Every mode is summed over its rows below.
    const Tensor share = row_modes(input).ge(0).to(at::kDouble) / size.to(at::kDouble);  // [P, n]

    // hits[p, i, j]: sum over modes of the number of sets with i and j that hit the mode; the same with i alone.
    const auto sets_with = [&](int64_t t, const Tensor& holds) {  // holds [P, i, j, c]: i or j is of the mode of row c
      std::vector<double> missed;
      for (int64_t rows = 0; rows <= n; ++rows) missed.push_back(choose(n - t - rows, m - t));
      const Tensor miss = at::tensor(missed, at::kDouble).to(size.device()).index_select(0, size.reshape({-1}));
      const Tensor all = at::full({}, choose(n - t, m - t), share.options());
      const Tensor count = at::where(holds, all, all - miss.view({-1, 1, 1, n}));
      return (count * share.unsqueeze(1).unsqueeze(1)).sum(3);  // [P, i, j]
    };
    const Tensor of_i = same.unsqueeze(2), of_j = same.unsqueeze(1);
    const Tensor pair = sets_with(2, of_i.logical_or(of_j)), alone = sets_with(1, of_i).squeeze(2);
    const Tensor self = at::eye(n, share.options()).to(at::kBool).unsqueeze(0);
    const Tensor hits = at::where(self, alone.unsqueeze(2), pair);

    const double scale = static_cast<double>(m * m);
    const Tensor reward = groups.centred + groups.reward.mean(1, true);  // equal where they differ by rounding only
    const Tensor with_i = at::matmul(hits, reward.unsqueeze(2)).squeeze(2) / scale;  // sum of F over the sets with i
    const Tensor mean_with = with_i / choose(n - 1, m - 1);
    // Every set is counted m times among the rows.
    const Tensor mean_all = with_i.sum(1, true) / (static_cast<double>(m) * choose(n, m));
    const Tensor advantage = mean_with - mean_all;
    const Tensor tolerance = 1e-12 * mean_all.abs().clamp_min(1.0);
    return join_all(groups, advantage.masked_fill(advantage.abs() <= tolerance, 0.0));
  }

 private:
  PolyEpoOptions options_;
};

}  // namespace

void add_poly_epo(Registry<AdvantageEstimator>& registry) {
  add_estimator<PolyEpo, PolyEpoOptions>(registry, "poly_epo", "mean reward x different strategies of sets of samples");
}

}  // namespace plural
