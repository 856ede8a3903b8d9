// SPDX-License-Identifier: Apache-2.0
// Rotary positions applied to heads, with backward: each half pair (x1, x2) -> (x1 cos - x2 sin, x2 cos + x1 sin).
#pragma once

#include "plural/tensor.h"

namespace plural::kernels {

/// x [N, H, D] (rows may be strided), cos and sin [N, D / 2] contiguous, one dtype: bfloat16, float32 or float64.
/// Computed in float32 (float64), rounded once. Returns [N, H, D] contiguous. Differentiable in x.
Tensor rotary(const Tensor& x, const Tensor& cos, const Tensor& sin);

namespace detail {
/// Rotates by the angle, or back with `inverse`.
Tensor rotary_cpu(const Tensor& x, const Tensor& cos, const Tensor& sin, bool inverse);
}  // namespace detail
}  // namespace plural::kernels
