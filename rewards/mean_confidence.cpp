// SPDX-License-Identifier: Apache-2.0
#include "rewards/reward_support.h"

namespace plural {
namespace {

/// The stated confidence, whatever the answers: one for the whole set, else the mean over the numbers 1 to K.
class MeanConfidence final : public Reward {
 public:
  using Options = NoOptions;
  explicit MeanConfidence(Options) {}
  std::string name() const override { return "mean_confidence"; }
  std::string formula() const override { return "mean stated confidence (invalid ones count as 0)"; }
  RewardOutput score(const RewardInput& input) const override { return {.row = mean(input.answers)}; }
  Tensor score_subset(const RewardInput& input, const Tensor& keep) const override {
    return mean(input.answers.keep(keep));
  }
  bool reads_confidences() const override { return true; }

 private:
  // [B]; a confidence in the whole set belongs to no slot, so it stays whichever are left out.
  static Tensor mean(const AnswerBatch& answers) {
    return at::where(answers.has_overall_confidence, answers.overall_confidence,
                     answers.numbered_confidence.nansum(1) / rewards::asked_count(answers));
  }
};

}  // namespace

void register_mean_confidence(Registry<Reward>& registry) {
  add_reward<MeanConfidence>(registry, "mean_confidence", "mean stated confidence");
}

}  // namespace plural
