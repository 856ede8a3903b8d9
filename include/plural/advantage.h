// SPDX-License-Identifier: Apache-2.0
// Rewards -> advantages. Pure functions of tensors.
#pragma once

#include <memory>
#include <string>

#include "plural/answers.h"
#include "plural/registry.h"
#include "plural/tensor.h"

namespace plural {

struct AdvantageInput {
  Tensor total;                          ///< [B] float32, group-major
  Tensor per_answer;                     ///< [B, K] float32 or undefined
  const AnswerBatch* answers = nullptr;  ///< for span credit; may be null
  int64_t samples_per_prompt = 1;        ///< G
};

struct AdvantageOutput {
  Tensor row;  ///< [B] float32
};

/// Credit for every row. An all-equal group gets exactly 0.
class AdvantageEstimator {
 public:
  virtual ~AdvantageEstimator() = default;
  virtual std::string name() const = 0;
  virtual AdvantageOutput estimate(const AdvantageInput& input) const = 0;
};

/// "grpo" (options: scale none|group|batch, std_floor) and "rloo" (docs/objectives.md). A group counts as
/// all-equal when its rewards differ by no more than float32 rounding: 1e-6 x max(1, |largest|).
Registry<AdvantageEstimator> builtin_advantages();

}  // namespace plural
