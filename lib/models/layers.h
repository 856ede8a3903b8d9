// SPDX-License-Identifier: Apache-2.0
// The differentiable pieces of a decoder layer that are not matrix products. Each is computed in float32 inside
// (float64 for float64) and rounded where `transformers` rounds, and has its own backward with few memory passes.
#pragma once

#include "lib/models/rope.h"
#include "plural/tensor.h"

namespace plural {

/// x / rms(x) * weight over the last dimension. x [..., E], weight [E].
Tensor rms_norm(const Tensor& x, const Tensor& weight, double eps);

/// Rotates each head by the angles of its token. x [N, H, D]; angles [N, D / 2].
Tensor apply_rotary(const Tensor& x, const RotaryAngles& angles);

/// silu(gate) * up, elementwise.
Tensor swiglu(const Tensor& gate, const Tensor& up);

}  // namespace plural
