// SPDX-License-Identifier: Apache-2.0
// The constraint on answers and confidences, shared by two rewards.
#pragma once

#include "plural/reward.h"

namespace plural {

struct ConstraintOptions {
  bool sum_at_most_one = true;
  template <class V>
  void fields(V& v) {
    v.field("sum_at_most_one", sum_at_most_one, any_value(), "the confidences must add up to at most 1");
  }
};

namespace rewards {
/// [B] bool: K different answers, each once, each with a confidence in [0, 1], and the sum as asked. Whatever the
/// format asks for, confidences are needed here.
Tensor response_constraint(const AnswerBatch& answers, const ConstraintOptions& options);
}  // namespace rewards

}  // namespace plural
