// SPDX-License-Identifier: Apache-2.0
#include "rewards/reward_support.h"

namespace plural {
namespace {

/// Graded format: how much of what the format asks for is there.
class FormatParts final : public Reward {
 public:
  using Options = NoOptions;
  explicit FormatParts(Options) {}
  std::string name() const override { return "format_parts"; }
  std::string formula() const override { return "good blocks / blocks that the format asks for"; }
  RewardOutput score(const RewardInput& input) const override { return {.row = input.answers.blocks_ok}; }
};

}  // namespace

void register_format_parts(Registry<Reward>& registry) {
  add_reward<FormatParts>(registry, "format_parts", "share of the format's blocks that are there");
}

}  // namespace plural
