// SPDX-License-Identifier: Apache-2.0
#include "rewards/response_constraint.h"
#include "rewards/reward_support.h"

namespace plural {
namespace {

class CombinedFormatAndConstraint final : public Reward {
 public:
  using Options = ConstraintOptions;
  explicit CombinedFormatAndConstraint(Options options) : options_(options) {}
  std::string name() const override { return "combined_format_and_constraint"; }
  std::string formula() const override { return "format * response_constraint"; }
  RewardOutput score(const RewardInput& input) const override {
    RewardOutput out;
    out.row = input.answers.format_ok.logical_and(rewards::response_constraint(input.answers, options_))
                  .to(input.answers.confidence.scalar_type());
    return out;
  }

 private:
  Options options_;
};

}  // namespace

void register_combined_format_and_constraint(Registry<Reward>& registry) {
  add_reward<CombinedFormatAndConstraint>(registry, "combined_format_and_constraint",
                                          "1 if both the format and the response constraint hold");
}

}  // namespace plural
