// SPDX-License-Identifier: Apache-2.0
#include "rewards/forecast.h"

#include "lib/core/format.h"

namespace plural {

std::string ForecastOptions::gates() const {
  return fmt::format("{}{}{}{}", require_format ? ", least without format" : "",
                     require_unique ? ", least with duplicates" : "",
                     sum_at_most_one ? ", least if confidences sum above 1" : "",
                     duplicates == "wrong" ? "; a repeated hit is wrong" : "");
}

RewardOutput ForecastReward::score(const RewardInput& input) const {
  const Tensor allowed = this->allowed(input.answers);
  RewardOutput out;
  out.per_answer = parts(input.answers, allowed);
  out.row = total(allowed, out.per_answer);
  return out;
}

Tensor ForecastReward::score_subset(const RewardInput& input, const Tensor& keep) const {
  const Tensor allowed = this->allowed(input.answers);
  return total(allowed, parts(input.answers.keep(keep), allowed) * keep);
}

double ForecastReward::zero_confidence_margin(int64_t k, bool) const {
  return (value_at(0, true) - value_at(0, false)) / static_cast<double>(k);
}

// f(q) or g(q).
double ForecastReward::value_at(double q, bool correct) const {
  const Tensor confidence = at::full({1}, q, at::kDouble);
  return (correct ? right(confidence) : wrong(confidence)).item<double>();
}

// [B] bool: the rows whose confidences are judged at all.
Tensor ForecastReward::allowed(const AnswerBatch& answers) const {
  Tensor allowed = at::ones_like(answers.format_ok);
  if (options_.require_format)
    allowed = allowed.logical_and(answers.format_ok).logical_and(rewards::confidences_usable(answers));
  if (options_.require_unique) allowed = allowed.logical_and(rewards::answers_differ(answers));
  if (options_.sum_at_most_one) allowed = allowed.logical_and(rewards::sum_at_most_one(answers));
  return allowed;
}

// [B, K]: (score - g(0)) / K of each slot that was asked for.
Tensor ForecastReward::parts(const AnswerBatch& answers, const Tensor& allowed) const {
  const Tensor outcome = options_.duplicates == "wrong" ? answers.first_hit() : answers.correct();
  const Tensor q = answers.confidence.to(at::kDouble);  // some scores are small differences
  const Tensor judged = answers.present.logical_and(answers.confidence_ok).logical_and(allowed.unsqueeze(1));
  Tensor score = at::where(outcome.gt(0), right(q), wrong(q));
  score = score.masked_fill(judged.logical_not(), value_at(1, false));  // silence is the worst forecast
  score = (score - value_at(0, false)) / rewards::asked_count(answers).unsqueeze(1) * rewards::asked(answers);
  return score.to(answers.confidence.scalar_type());
}

// [B]: the value that the parts add up to; exactly the least one for a row that is not allowed.
Tensor ForecastReward::total(const Tensor& allowed, const Tensor& parts) const {
  return (value_at(0, false) + parts.sum(1)).masked_fill(allowed.logical_not(), value_at(1, false));
}

}  // namespace plural
