// SPDX-License-Identifier: Apache-2.0
// pass@k training in closed form (Chen et al., arXiv 2508.10751): the reward of a group of k is that any of them is
// correct; a row's advantage is the mean over all groups of k among the N samples that hold it.
//   R = 1 - C(N-, k) / C(N, k),  s = sqrt(R (1 - R)),  A+ = (1 - R) / s,
//   A- = (1 - R - C(N- - 1, k - 1) / C(N - 1, k - 1)) / s;  0 where R is 0 or 1. They sum to 0.
// Reads which rows are correct, not what they are paid.
#include <ATen/ATen.h>

#include <cmath>

#include "lib/objectives/advantages/estimators.h"
#include "lib/objectives/advantages/groups.h"

namespace plural {

namespace {

struct PassAtKOptions {
  int64_t k = 4;

  template <class V>
  void fields(V& v) {
    v.field("k", k, at_least(1), "samples that a prompt may spend; at most samples_per_prompt");
  }
};

class PassAtK final : public AdvantageEstimator {
 public:
  explicit PassAtK(PassAtKOptions options) : options_(options) {}
  std::string name() const override { return "pass_at_k"; }
  void check_sizes(int64_t samples_per_prompt, int64_t) const override {
    check_subset_size("advantage 'pass_at_k': k", options_.k, samples_per_prompt, "");
  }

  AdvantageOutput estimate(const AdvantageInput& input) const override {
    const Groups groups = split_groups(input);
    check_subset_size("advantage 'pass_at_k': k", options_.k, groups.size());
    const Tensor correct = correct_rows(input);
    // A+ and A- depend on the number of correct rows alone: one table for all groups.
    std::vector<double> plus, minus;
    for (int64_t right = 0; right <= groups.size(); ++right) {
      const auto [a, b] = advantages(groups.size(), right);
      plus.push_back(a), minus.push_back(b);
    }
    const Tensor right = correct.sum(1, true);  // [P, 1]
    const auto of_group = [&](const std::vector<double>& table) {
      return at::tensor(table, at::kDouble).to(right.device()).index_select(0, right.view({-1})).unsqueeze(1);
    };
    return join_all(groups, at::where(correct, of_group(plus), of_group(minus)));
  }

 private:
  std::pair<double, double> advantages(int64_t n, int64_t right) const {
    const int64_t wrong = n - right, k = options_.k;
    if (right == 0 || wrong < k) return {0.0, 0.0};  // no or every group of k holds a correct one
    const double miss = choose(wrong, k) / choose(n, k), reward = 1.0 - miss;
    const double std = std::sqrt(reward * miss);
    return {miss / std, (miss - choose(wrong - 1, k - 1) / choose(n - 1, k - 1)) / std};
  }

  PassAtKOptions options_;
};

}  // namespace

void add_pass_at_k(Registry<AdvantageEstimator>& registry) {
  add_estimator<PassAtK, PassAtKOptions>(registry, "pass_at_k", "any of k samples is correct, in closed form");
}

}  // namespace plural
