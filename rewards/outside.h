// SPDX-License-Identifier: Apache-2.0
// What the rewards share that ask something outside the process about single answers.
#pragma once

#include <string>
#include <vector>

#include "plural/reward.h"

namespace plural::rewards {

/// How the values of answers make the value of a row.
struct CombineOptions {
  std::string combine = "mean";
  double fail_value = 0;

  template <class V>
  void fields(V& v) {
    v.field("combine", combine, one_of({"mean", "any"}),
            "mean: the sum over the answers / K; any: the best answer's value");
    v.field("fail_value", fail_value, any_value(),
            "value of what could not be judged: an error, a crash, no time left");
  }
};

/// One answer of the batch that is to be judged.
struct Slot {
  int64_t row;
  int64_t slot;
};

/// The answers to ask about, each different one of a row once: the first with its key. One without a key (its normal
/// form is empty, as that of option "A") is told from others like it by its text; an empty one is left out.
std::vector<Slot> different_answers(const AnswerBatch& answers);

/// `values[i]` belongs to `slots[i]`; all other slots earn 0. Tensors on the device of `answers`. No part for each
/// answer: a reward with parts must judge subsets of the set again, which would ask again.
RewardOutput combine_answers(const AnswerBatch& answers, const std::vector<Slot>& slots,
                             const std::vector<double>& values, const CombineOptions& options);

}  // namespace plural::rewards
