// SPDX-License-Identifier: Apache-2.0
// The gate of a gated MLP (Shazeer 2020), silu(gate) * up, with backward in one pass.
#pragma once

#include "plural/tensor.h"

namespace plural::kernels {

/// gate, up [N, F] (rows may be strided), one dtype: bfloat16, float32 or float64. Computed in float32 (float64),
/// rounded once. Returns [N, F] contiguous. Differentiable.
Tensor swiglu(const Tensor& gate, const Tensor& up);

namespace detail {
/// The CPU twin; the elements of a row of gate and up are neighbours.
Tensor swiglu_cpu(const Tensor& gate, const Tensor& up);
/// grad [N, F] contiguous -> gradients of gate and up, contiguous.
void swiglu_backward_cpu(const Tensor& grad, const Tensor& gate, const Tensor& up, Tensor& grad_gate, Tensor& grad_up);
}  // namespace detail
}  // namespace plural::kernels
