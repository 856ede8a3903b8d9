// SPDX-License-Identifier: Apache-2.0
#include "rewards/response_constraint.h"

#include "rewards/reward_support.h"

namespace plural {
namespace {

class ResponseConstraint final : public Reward {
 public:
  using Options = ConstraintOptions;
  explicit ResponseConstraint(Options options) : options_(options) {}
  std::string name() const override { return "response_constraint"; }
  std::string formula() const override {
    return options_.sum_at_most_one ? "1 if K different answers have confidences in [0, 1] that sum to at most 1"
                                    : "1 if K different answers have confidences in [0, 1]";
  }
  RewardOutput score(const RewardInput& input) const override {
    RewardOutput out;
    out.row = rewards::response_constraint(input.answers, options_).to(input.answers.confidence.scalar_type());
    return out;
  }

 private:
  Options options_;
};

}  // namespace

Tensor rewards::response_constraint(const AnswerBatch& answers, const ConstraintOptions& options) {
  Tensor kept = confidences_usable(answers).logical_and(answers_differ(answers));
  if (options.sum_at_most_one) kept = kept.logical_and(rewards::sum_at_most_one(answers));
  return kept;
}

void register_response_constraint(Registry<Reward>& registry) {
  add_reward<ResponseConstraint>(registry, "response_constraint",
                                 "1 if the answers differ and their confidences are probabilities");
}

}  // namespace plural
