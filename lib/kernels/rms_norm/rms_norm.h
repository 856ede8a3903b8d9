// SPDX-License-Identifier: Apache-2.0
// Root-mean-square normalisation (Zhang and Sennrich 2019) with its own backward: one pass over the rows each way.
#pragma once

#include "plural/tensor.h"

namespace plural::kernels {

/// round(x / sqrt(mean(x^2) + eps)) * weight over the last dimension, sums in float32 (float64 for float64), rounded
/// twice as `transformers` does. x [..., E], weight [E], one dtype: bfloat16, float32 or float64. Differentiable.
Tensor rms_norm(const Tensor& x, const Tensor& weight, double eps);

namespace detail {

/// The CPU loops. x, grad [rows, E] contiguous; scale [rows] = 1 / rms in the compute type.
void rms_norm_cpu(const Tensor& x, const Tensor& weight, double eps, Tensor& out, Tensor& scale);
/// grad_weight [E] is in the compute type.
void rms_norm_backward_cpu(const Tensor& grad, const Tensor& x, const Tensor& weight, const Tensor& scale,
                           Tensor& grad_x, Tensor& grad_weight);

}  // namespace detail
}  // namespace plural::kernels
