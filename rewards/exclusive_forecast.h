// SPDX-License-Identifier: Apache-2.0
// Scores of the set as one forecast over exclusive outcomes: answer 1, ..., answer K, or none of these.
#pragma once

#include "rewards/reward_support.h"

namespace plural {

/// A set read as one forecast: at most one of its answers is right, and q_0 = 1 - sum q is the probability of none.
struct ExclusiveForecast {
  Tensor asked;   ///< [B, K] bool: the slots that the row was asked for
  Tensor q;       ///< [B, K]
  Tensor none;    ///< [B]: q_0
  Tensor z;       ///< [B, K]: 1 at the outcome, the first correct answer
  Tensor z_none;  ///< [B]: 1 where no answer is correct
};

/// 0 unless the confidences of the set are such a forecast: K different answers, each with a confidence in [0, 1], that
/// add up to at most 1. Slots left out of the set have no probability and are not the outcome.
class ExclusiveForecastReward : public Reward {
 public:
  explicit ExclusiveForecastReward(bool require_format) : require_format_(require_format) {}
  RewardOutput score(const RewardInput& input) const override;
  Tensor score_subset(const RewardInput& input, const Tensor& keep) const override;
  bool reads_confidences() const override { return true; }
  /// With all of the probability on "none": a right answer turns the best forecast (1) into the worst (0).
  double zero_confidence_margin(int64_t, bool) const override { return -1; }

 protected:
  /// [B] in [0, 1], 1 for a sure forecast that comes true.
  virtual Tensor judge(const ExclusiveForecast& forecast) const = 0;
  std::string gates() const { return require_format_ ? ", 0 without format" : ""; }

 private:
  Tensor allowed(const AnswerBatch& answers) const;
  Tensor value(const AnswerBatch& answers, const Tensor& allowed) const;

  bool require_format_;
};

}  // namespace plural
