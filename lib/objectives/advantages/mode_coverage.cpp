// SPDX-License-Identifier: Apache-2.0
// Coverage of the correct answers by a group of parallel samples: F(S) = sum_c w_c 1[some row hits gold answer c]. A
// row gets what the group would lose without it, A_i = F(S) - F(S without i): the weights of the answers that it alone
// hits. For independent samples that is the unbiased credit of grad E[F(y_1 .. y_G)] (summed over the group).
#include <ATen/ATen.h>

#include "lib/objectives/advantages/estimators.h"
#include "lib/objectives/advantages/groups.h"
#include "plural/error.h"

namespace plural {

namespace {

struct ModeCoverageOptions {
  std::string weights = "equal";
  double reward_weight = 0.0;

  template <class V>
  void fields(V& v) {
    v.field("weights", weights, one_of({"equal", "gold"}),
            "w_c: 1 for every gold answer, or its weight in the data (a distribution)");
    v.field("reward_weight", reward_weight, at_least(0),
            "adds this times (reward - group mean), e.g. for a format reward");
  }
};

class ModeCoverage final : public AdvantageEstimator {
 public:
  explicit ModeCoverage(ModeCoverageOptions options) : options_(std::move(options)) {}
  std::string name() const override { return "mode_coverage"; }
  bool credits_equal_rewards() const override { return true; }

  AdvantageOutput estimate(const AdvantageInput& input) const override {
    PLURAL_CHECK(input.answers != nullptr, "mode_coverage needs the answers");
    const Groups groups = split_groups(input);
    const AnswerBatch& answers = *input.answers;
    const Tensor hit = hits(answers).view({-1, groups.size(), answers.gold_weight.size(1)});  // [P, G, Y]
    const Tensor alone = hit * hit.sum(1, true).eq(1);
    Tensor weight = answers.gold_weight.to(at::kDouble).view(hit.sizes());
    if (options_.weights == "equal") weight = at::ones_like(weight);
    return join_all(groups, (alone * weight).sum(2) + options_.reward_weight * groups.centred);
  }

 private:
  // [B, Y] float64: 1 where the row hits the gold answer.
  static Tensor hits(const AnswerBatch& answers) {
    const Tensor gold = at::arange(answers.gold_weight.size(1), answers.match.options());
    return answers.match.unsqueeze(2).eq(gold).any(1).to(at::kDouble);
  }

  ModeCoverageOptions options_;
};

}  // namespace

void add_mode_coverage(Registry<AdvantageEstimator>& registry) {
  add_estimator<ModeCoverage, ModeCoverageOptions>(registry, "mode_coverage",
                                                   "the correct answers that a row alone hits");
}

}  // namespace plural
