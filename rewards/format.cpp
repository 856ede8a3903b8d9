// SPDX-License-Identifier: Apache-2.0
#include "rewards/reward_support.h"

namespace plural {
namespace {

/// 1 where the completion keeps the answer format.
class Format final : public Reward {
 public:
  using Options = NoOptions;
  explicit Format(Options) {}
  std::string name() const override { return "format"; }
  std::string formula() const override { return "1 if the completion keeps the format"; }

  RewardOutput score(const RewardInput& input) const override {
    RewardOutput out;
    out.row = input.answers.format_ok.to(input.answers.confidence.scalar_type());
    return out;
  }
};

}  // namespace

void register_format(Registry<Reward>& registry) {
  add_reward<Format>(registry, "format", "1 if the completion keeps the answer format");
}

}  // namespace plural
