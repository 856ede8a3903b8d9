// SPDX-License-Identifier: Apache-2.0
// Rotary positions (Su et al. 2021) with the scalings linear, llama3 and yarn (Peng et al. 2023), as `transformers`
// computes them: angles in float32, halves rotated (x1, x2) -> (x1 cos - x2 sin, x2 cos + x1 sin).
#pragma once

#include "plural/tensor.h"
#include "plural/transformer.h"

namespace plural {

/// The cosines and sines of one batch's positions, each [N, D / 2] in the model's dtype.
struct RotaryAngles {
  Tensor cos, sin;
};

/// Precomputed inverse frequencies of a model.
class Rotary {
 public:
  Rotary() = default;
  Rotary(const TransformerConfig& config, at::Device device);
  /// positions [N] int64.
  RotaryAngles angles(const Tensor& positions, at::ScalarType dtype) const;

 private:
  Tensor inverse_frequency_;  // [D / 2] float32
  double attention_factor_ = 1.0;
};

}  // namespace plural
