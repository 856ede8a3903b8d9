// SPDX-License-Identifier: Apache-2.0
// PKPO (arXiv 2505.15201) and max@k (2510.23393): gradients of E[max reward of k samples] from n >= k samples.
// With the rewards sorted, g_0 <= ... <= g_{n-1}, and C = C(n, k):
//   s_a     = [C(a, k-1) g_a + sum_{j > a} C(j-1, k-2) g_j] / C      (sum over the k-subsets with a of their max)
//   loo-1_a = sum_{j < a} C(j, k-2) (g_a - g_j) / C                  (... of max - max without a)
//   loo_a   = s_a - k/n rho(rewards without a),  rho = mean over all k-subsets of their max
// Summed over a group, advantage x grad log pi has expectation grad E[max] for all three; loo-1 has the least variance.
#include <ATen/ATen.h>

#include "lib/objectives/advantages/estimators.h"
#include "lib/objectives/advantages/groups.h"

namespace plural {

namespace {

// Coefficients [n] of places 0 .. n-1 in sorted order.
template <class Coefficient>
Tensor coefficients(int64_t n, const Tensor& like, const Coefficient& of_place) {
  std::vector<double> values;
  for (int64_t j = 0; j < n; ++j) values.push_back(of_place(j));
  return at::tensor(values, at::kDouble).to(like.device());
}

// [P, n] -> [P, n]: sum of the entries before / after each place.
Tensor sum_before(const Tensor& x) { return x.cumsum(1) - x; }
Tensor sum_after(const Tensor& x) { return x.sum(1, true) - x.cumsum(1); }

// All of these take sorted rewards [P, n] and return [P, n] in sorted order.
Tensor subset_max(const Tensor& g, int64_t k) {
  const int64_t n = g.size(1);
  const Tensor own = coefficients(n, g, [&](int64_t a) { return choose(a, k - 1); });
  const Tensor other = coefficients(n, g, [&](int64_t j) { return choose(j - 1, k - 2); });
  return (own * g + sum_after(other * g)) / choose(n, k);
}

Tensor subset_gain(const Tensor& g, int64_t k) {
  const int64_t n = g.size(1);
  const Tensor weight = coefficients(n, g, [&](int64_t j) { return choose(j, k - 2); });
  return (g * sum_before(weight.expand_as(g)) - sum_before(weight * g)) / choose(n, k);
}

// [P, n]: rho of the n - 1 rewards without each.
Tensor mean_max_without(const Tensor& g, int64_t k) {
  const int64_t n = g.size(1);
  // An entry keeps its rank when a larger one goes, and loses one when a smaller one goes.
  const Tensor kept = coefficients(n, g, [&](int64_t j) { return choose(j, k - 1); });
  const Tensor moved = coefficients(n, g, [&](int64_t j) { return choose(j - 1, k - 1); });
  return (sum_before(kept * g) + sum_after(moved * g)) / choose(n - 1, k);
}

/// Sorts every group, applies `credit` and puts the values back in place.
template <class Credit>
Tensor in_sorted_order(const Tensor& reward, const Credit& credit) {
  const auto [sorted, order] = reward.sort(1);
  return at::empty_like(reward).scatter_(1, order, credit(sorted));
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
    const Tensor advantage = in_sorted_order(groups.reward, [&](const Tensor& g) {
      if (options_.baseline == "loo_1") return subset_gain(g, k);
      const Tensor credit = subset_max(g, k);
      if (options_.baseline == "none") return credit;
      return credit - mean_max_without(g, k) * (static_cast<double>(k) / static_cast<double>(n));
    });
    return options_.baseline == "none" ? join_all(groups, advantage) : join_groups(groups, advantage);
  }

 private:
  PkpoOptions options_;
};

struct MaxAtKOptions {
  int64_t k = 4;
  double std_floor = 0.0;

  template <class V>
  void fields(V& v) {
    v.field("k", k, at_least(1), "samples that a prompt may spend; at most samples_per_prompt");
    v.field("std_floor", std_floor, at_least(0), "a smaller std counts as this one");
  }
};

class MaxAtK final : public AdvantageEstimator {
 public:
  explicit MaxAtK(MaxAtKOptions options) : options_(options) {}
  std::string name() const override { return "max_at_k"; }
  void check_sizes(int64_t samples_per_prompt, int64_t) const override {
    check_subset_size("advantage 'max_at_k': k", options_.k, samples_per_prompt);
  }

  AdvantageOutput estimate(const AdvantageInput& input) const override {
    const Groups groups = split_groups(input);
    check_sizes(groups.size(), 1);
    const Tensor credit = in_sorted_order(groups.reward, [&](const Tensor& g) { return subset_max(g, options_.k); });
    const Tensor centred = credit - credit.mean(1, true);
    return join_groups(groups, centred / (group_std(credit, true).clamp_min(options_.std_floor) + kStdEps));
  }

 private:
  MaxAtKOptions options_;
};

}  // namespace

void add_pkpo(Registry<AdvantageEstimator>& registry) {
  add_estimator<Pkpo, PkpoOptions>(registry, "pkpo", "what a row adds to the best of k samples");
}

void add_max_at_k(Registry<AdvantageEstimator>& registry) {
  add_estimator<MaxAtK, MaxAtKOptions>(registry, "max_at_k", "best of k samples, z-scored");
}

}  // namespace plural
