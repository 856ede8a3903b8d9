// SPDX-License-Identifier: Apache-2.0
// PKPO (arXiv 2505.15201): gradients of E[max reward of k samples] from n >= k samples.
// With the rewards sorted, g_0 <= ... <= g_{n-1}, and C = C(n, k):
//   s_a     = [C(a, k-1) g_a + sum_{j > a} C(j-1, k-2) g_j] / C      (sum over the k-subsets with a of their max)
//   loo-1_a = sum_{j < a} C(j, k-2) (g_a - g_j) / C                  (... of max - max without a)
//   loo_a   = s_a - k/n rho(rewards without a),  rho = mean over all k-subsets of their max
// Summed over a group, advantage x grad log pi has expectation grad E[max] for all three; loo-1 has the least variance.
#include <ATen/ATen.h>

#include "lib/objectives/advantages/estimators.h"
#include "lib/objectives/advantages/groups.h"
#include "lib/objectives/advantages/sorted_groups.h"

namespace plural {

namespace {

// Sorted rewards [P, n] -> [P, n] in sorted order, as subset_max.
Tensor subset_gain(const Tensor& g, int64_t k) {
  const int64_t n = g.size(1);
  const Tensor weight = place_weights(g, [&](int64_t j) { return choose(j, k - 2); });
  return (g * sum_before(weight.expand_as(g)) - sum_before(weight * g)) / choose(n, k);
}

// [P, n]: rho of the n - 1 rewards without each.
Tensor mean_max_without(const Tensor& g, int64_t k) {
  const int64_t n = g.size(1);
  // An entry keeps its rank when a larger one goes, and loses one when a smaller one goes.
  const Tensor kept = place_weights(g, [&](int64_t j) { return choose(j, k - 1); });
  const Tensor moved = place_weights(g, [&](int64_t j) { return choose(j - 1, k - 1); });
  return (sum_before(kept * g) + sum_after(moved * g)) / choose(n - 1, k);
}

struct PkpoOptions {
  int64_t k = 4;
  std::string baseline = "loo_1";

  template <class V>
  void fields(V& v) {
    v.field("k", k, at_least(1), "samples that a prompt may spend; at most samples_per_prompt");
    v.field("baseline", baseline, one_of({"loo_1", "loo", "none"}),
            "loo_1: what a row adds to the others of its subset; loo: less the mean without the row; none");
  }
};

class Pkpo final : public AdvantageEstimator {
 public:
  explicit Pkpo(PkpoOptions options) : options_(std::move(options)) {}
  std::string name() const override { return "pkpo"; }
  void check_sizes(int64_t samples_per_prompt, int64_t) const override {
    // The row that is left out must leave k others.
    const int64_t needed = options_.baseline == "loo" ? options_.k + 1 : options_.k;
    check_subset_size(options_.baseline == "loo" ? "advantage 'pkpo': k + 1" : "advantage 'pkpo': k", needed,
                      samples_per_prompt);
  }

  AdvantageOutput estimate(const AdvantageInput& input) const override {
    const Groups groups = split_groups(input);
    check_sizes(groups.size(), 1);
    const int64_t n = groups.size(), k = options_.k;
    // Without the row there is no maximum of k = 1; what is left is RLOO over n.
    if (k == 1 && options_.baseline == "loo_1")
      return join_groups(groups, groups.centred / static_cast<double>(std::max<int64_t>(1, n - 1)));
    const Tensor advantage = in_sorted_order(groups.reward, [&](const Tensor& g, const Tensor&) {
      if (options_.baseline == "loo_1") return subset_gain(g, k);
      Tensor credit = subset_max(g, k);
      if (options_.baseline == "none") return credit;
      return credit - mean_max_without(g, k) * (static_cast<double>(k) / static_cast<double>(n));
    });
    return options_.baseline == "none" ? join_all(groups, advantage) : join_groups(groups, advantage);
  }

 private:
  PkpoOptions options_;
};

}  // namespace

void add_pkpo(Registry<AdvantageEstimator>& registry) {
  add_estimator<Pkpo, PkpoOptions>(registry, "pkpo", "what a row adds to the best of k samples");
}

}  // namespace plural
