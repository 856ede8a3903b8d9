// SPDX-License-Identifier: Apache-2.0
// What the rewards for stated confidences share: which rows are judged, what counts as correct, and the mean over the
// answers of a score of each one's confidence.
#pragma once

#include <string>

#include "rewards/reward_support.h"

namespace plural {

struct ForecastOptions {
  bool require_format = true;
  bool require_unique = true;
  bool sum_at_most_one = true;
  std::string duplicates = "correct";
  template <class V>
  void fields(V& v) {
    v.field("require_format", require_format, any_value(),
            "the least value unless the format holds and each of the K answers has a confidence in [0, 1]; off: a slot "
            "without them counts as the worst forecast");
    v.field("require_unique", require_unique, any_value(), "the least value unless all K answers differ");
    v.field("sum_at_most_one", sum_at_most_one, any_value(),
            "the least value unless the confidences add up to at most 1 (for questions with a single right answer)");
    v.field("duplicates", duplicates, one_of({"correct", "wrong"}),
            "whether a second answer that hits the same gold answer counts as correct");
  }
  /// ", least without format, ..." for formula().
  std::string gates() const;
};

/// Mean over the K answers of a score of the confidence q: f(q) for a correct answer, g(q) for a wrong one. A slot that
/// states nothing usable is the worst forecast, g(1); so is every slot of a row whose gates are closed.
///
/// The row is g(0) + the sum of the answers' parts (score - g(0)) / K: a slot left out of the set weighs as one that is
/// known to be wrong, which a proper score neither pays nor charges.
class ForecastReward : public Reward {
 public:
  explicit ForecastReward(ForecastOptions options) : options_(std::move(options)) {}
  RewardOutput score(const RewardInput& input) const override;
  Tensor score_subset(const RewardInput& input, const Tensor& keep) const override;
  double zero_confidence_margin(int64_t k, bool exclusive) const override;
  bool judges_confidences() const override { return true; }

 protected:
  /// f and g of confidences in [0, 1], elementwise; same shape and dtype.
  virtual Tensor right(const Tensor& q) const = 0;
  virtual Tensor wrong(const Tensor& q) const = 0;
  const ForecastOptions& options() const { return options_; }

 private:
  double value_at(double q, bool correct) const;
  Tensor allowed(const AnswerBatch& answers) const;
  Tensor parts(const AnswerBatch& answers, const Tensor& allowed) const;
  Tensor total(const Tensor& allowed, const Tensor& parts) const;

  ForecastOptions options_;
};

}  // namespace plural
