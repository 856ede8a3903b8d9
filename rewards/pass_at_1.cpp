// SPDX-License-Identifier: Apache-2.0
#include "rewards/reward_support.h"

namespace plural {
namespace {

/// 1 where the answer of the highest confidence (or the first one) is correct and the format holds.
class PassAt1 final : public Reward {
 public:
  using Options = NoOptions;
  explicit PassAt1(Options) {}
  std::string name() const override { return "pass_at_1"; }
  std::string formula() const override { return "1 if the top-ranked answer is correct, 0 without format"; }
  RewardOutput score(const RewardInput& input) const override {
    RewardOutput out;
    out.row = rewards::pass_at(input.answers, 1);
    return out;
  }
  // Next to another correct answer, or behind the top ranks, one more earns nothing.
  double zero_confidence_margin(int64_t k, bool) const override { return k == 1 ? 1 : 0; }
};

}  // namespace

void register_pass_at_1(Registry<Reward>& registry) {
  add_reward<PassAt1>(registry, "pass_at_1", "1 if the top-ranked answer is correct");
}

}  // namespace plural
