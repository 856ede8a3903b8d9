// SPDX-License-Identifier: Apache-2.0
#include "rewards/reward_support.h"

namespace plural {
namespace {

/// Within 0.01 of 0 or of 1; the bounds themselves do not count, though 0.99 in float32 lies just inside.
Tensor extreme(const Tensor& confidence) {
  const double bound = confidence.scalar_type() == at::kFloat ? 0.01 - 1e-6 : 0.01;
  return confidence.abs().lt(bound).logical_or((confidence - 1).abs().lt(bound));
}

/// 1 where every stated confidence is near 0 or 1: a probe for overconfident policies.
class ConfidenceOneOrZero final : public Reward {
 public:
  using Options = NoOptions;
  explicit ConfidenceOneOrZero(Options) {}
  std::string name() const override { return "confidence_one_or_zero"; }
  std::string formula() const override { return "1 if every confidence is within 0.01 of 0 or 1"; }
  RewardOutput score(const RewardInput& input) const override {
    const AnswerBatch& answers = input.answers;
    // A confidence that is no number is not extreme, though it counts as 0 elsewhere.
    const Tensor overall = extreme(answers.overall_confidence).logical_and(answers.overall_confidence_stated);
    const Tensor each = extreme(answers.numbered_confidence);  // NaN is not extreme
    const Tensor all = each.logical_or(rewards::asked(answers).logical_not()).all(1);
    RewardOutput out;
    out.row = at::where(answers.has_overall_confidence, overall, all).to(answers.confidence.scalar_type());
    return out;
  }
};

}  // namespace

void register_confidence_one_or_zero(Registry<Reward>& registry) {
  add_reward<ConfidenceOneOrZero>(registry, "confidence_one_or_zero", "1 if every confidence is near 0 or 1");
}

}  // namespace plural
