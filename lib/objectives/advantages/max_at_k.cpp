// SPDX-License-Identifier: Apache-2.0
// max@k (arXiv 2510.23393): s_a, the sum over the k-subsets with row a of their best reward, z-scored over the group.
//
// Off-policy: completions of an older policy have the weight rho = p(y) / p_old(y), and a subset the product of its
// rows' weights. With d = rho - 1 that product is 1 + sum of d to first order, and with the rewards sorted, D_j =
// sum_{l < j} d_l,
//   C(n, k) s_a = g_a [C(a, k-1) (1 + d_a) + C(a-1, k-2) D_a]
//               + sum_{j > a} g_j [C(j-1, k-2) (1 + d_a + d_j) + C(j-2, k-3) (D_j - d_a)].
// With every d = 0 it is the on-policy form.
#include <ATen/ATen.h>

#include "lib/objectives/advantages/estimators.h"
#include "lib/objectives/advantages/groups.h"
#include "lib/objectives/advantages/sorted_groups.h"
#include "plural/error.h"

namespace plural {

namespace {

// Sorted rewards and their rows' d, [P, n] each -> s in sorted order.
Tensor off_policy_subset_max(const Tensor& g, const Tensor& d, int64_t k) {
  const Tensor own = place_weights(g, [&](int64_t a) { return choose(a, k - 1); });
  const Tensor own_moved = place_weights(g, [&](int64_t a) { return choose(a - 1, k - 2); });
  const Tensor other = place_weights(g, [&](int64_t j) { return choose(j - 1, k - 2); });
  const Tensor other_moved = place_weights(g, [&](int64_t j) { return choose(j - 2, k - 3); });
  const Tensor before = sum_before(d);
  // The bracket of j > a is linear in d_a: one part without it, one with.
  const Tensor without = sum_after(g * (other * (1 + d) + other_moved * before));
  const Tensor with = sum_after(g * (other - other_moved));
  return (g * (own * (1 + d) + own_moved * before) + without + d * with) / choose(g.size(1), k);
}

struct MaxAtKOptions {
  int64_t k = 4;
  bool z_score = true;
  double std_floor = 0.0;
  bool off_policy = false;
  double ratio_cap = 2.0;

  template <class V>
  void fields(V& v) {
    v.field("k", k, at_least(1), "samples that a prompt may spend; at most samples_per_prompt");
    v.field("z_score", z_score, any_value(),
            "less the group's mean, over its std; false: s as it is, which is unbiased");
    v.field("std_floor", std_floor, at_least(0), "a smaller std counts as this one");
    v.field("off_policy", off_policy, any_value(),
            "completions of an older policy (carry_over) count by the ratio of their probabilities, to first order");
    v.field("ratio_cap", ratio_cap, at_least(1), "off_policy: largest ratio");
  }
};

class MaxAtK final : public AdvantageEstimator {
 public:
  explicit MaxAtK(MaxAtKOptions options) : options_(options) {}
  std::string name() const override { return "max_at_k"; }
  bool corrects_off_policy() const override { return options_.off_policy; }
  void check_sizes(int64_t samples_per_prompt, int64_t) const override {
    check_subset_size("advantage 'max_at_k': k", options_.k, samples_per_prompt,
                      options_.z_score ? ", or z_score: false" : nullptr);
  }

  AdvantageOutput estimate(const AdvantageInput& input) const override {
    const Groups groups = split_groups(input);
    check_subset_size("advantage 'max_at_k': k", options_.k, groups.size());
    const Tensor excess = options_.off_policy ? excess_ratio(input).view(groups.reward.sizes()) : Tensor();
    const Tensor credit = in_sorted_order(groups.reward, [&](const Tensor& g, const Tensor& order) {
      return excess.defined() ? off_policy_subset_max(g, excess.gather(1, order), options_.k)
                              : subset_max(g, options_.k);
    });
    if (!options_.z_score) return join_all(groups, credit);
    const Tensor centred = credit - credit.mean(1, true);
    return join_groups(groups, centred / (group_std(credit, true).clamp_min(options_.std_floor) + kStdEps));
  }

 private:
  // d = rho - 1, [B].
  Tensor excess_ratio(const AdvantageInput& input) const {
    PLURAL_CHECK(input.log_prob.defined() && input.sampler_log_prob.defined(),
                 "max_at_k off-policy needs AdvantageInput::log_prob and ::sampler_log_prob");
    check_shapes({{"total", input.total, "B"},
                  {"log_prob", input.log_prob, "B"},
                  {"sampler_log_prob", input.sampler_log_prob, "B"}});
    const Tensor log_ratio = input.log_prob.to(at::kDouble) - input.sampler_log_prob.to(at::kDouble);
    return log_ratio.exp().clamp_max(options_.ratio_cap) - 1;
  }

  MaxAtKOptions options_;
};

}  // namespace

void add_max_at_k(Registry<AdvantageEstimator>& registry) {
  add_estimator<MaxAtK, MaxAtKOptions>(registry, "max_at_k", "best of k samples, z-scored");
}

}  // namespace plural
