// SPDX-License-Identifier: Apache-2.0
#include "rewards/exclusive_forecast.h"

#include "rewards/response_constraint.h"

namespace plural {

RewardOutput ExclusiveForecastReward::score(const RewardInput& input) const {
  return {.row = value(input.answers, allowed(input.answers))};
}

Tensor ExclusiveForecastReward::score_subset(const RewardInput& input, const Tensor& keep) const {
  return value(input.answers.keep(keep), allowed(input.answers));
}

// [B] bool: the set is a forecast.
Tensor ExclusiveForecastReward::allowed(const AnswerBatch& answers) const {
  const Tensor forecast = rewards::response_constraint(answers, {.sum_at_most_one = true});
  return require_format_ ? forecast.logical_and(answers.format_ok) : forecast;
}

Tensor ExclusiveForecastReward::value(const AnswerBatch& answers, const Tensor& allowed) const {
  ExclusiveForecast forecast;
  forecast.asked = rewards::asked(answers);
  forecast.q = answers.confidence;
  forecast.none = (1 - answers.confidence.sum(1)).clamp_min(0);  // the sum may pass 1 by rounding
  forecast.z = rewards::first_correct(answers);
  forecast.z_none = 1 - forecast.z.sum(1);
  return judge(forecast) * allowed;
}

}  // namespace plural
