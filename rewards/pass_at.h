// SPDX-License-Identifier: Apache-2.0
// pass@i as a reward: what pass_at_1, pass_at_3 and pass_at_i share.
#pragma once

#include <string>
#include <utility>

#include "lib/core/format.h"
#include "rewards/reward_support.h"

namespace plural::rewards {

/// 1 where one of the `i` top-ranked answers is correct and the format holds.
class PassAt : public Reward {
 public:
  /// i >= 1.
  PassAt(std::string name, int64_t i) : name_(std::move(name)), i_(i) {}
  std::string name() const override { return name_; }
  std::string formula() const override {
    if (i_ == 1) return "1 if the top-ranked answer is correct, 0 without format";
    return fmt::format("1 if one of the top {} answers is correct, 0 without format", i_);
  }
  RewardOutput score(const RewardInput& input) const override { return {.row = pass_at(input.answers, i_)}; }
  // Next to another correct answer, or behind the top ranks, one more earns nothing.
  double zero_confidence_margin(int64_t k, bool) const override { return k == 1 ? 1 : 0; }

 private:
  std::string name_;
  int64_t i_;
};

}  // namespace plural::rewards
