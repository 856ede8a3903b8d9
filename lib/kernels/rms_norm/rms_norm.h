// SPDX-License-Identifier: Apache-2.0
// RMS norm (Zhang and Sennrich 2019, arXiv 1910.07467) in one pass each way, alone and together with the residual sum
// before it. The residual stream of a bfloat16 model is float32: rounding it at every layer would let sampling and
// training drift apart.
#pragma once

#include "plural/tensor.h"

namespace plural::kernels {

/// weight * x / sqrt(mean(x^2) + eps) over the last dimension, sums in float32 (float64 for float64), rounded once to
/// the weight's dtype. x [..., E] has that dtype or stream_type's, weight [E]. Differentiable.
Tensor rms_norm(const Tensor& x, const Tensor& weight, double eps);

struct StreamNorm {
  Tensor stream;  ///< [N, E]: stream + update
  Tensor normal;  ///< [N, E], dtype of the weight: its norm
};

/// The residual sum and its norm. stream [N, E] is float32 (float64 for a float64 weight); update [N, E] has the
/// weight's dtype, or is undefined: nothing to add. Differentiable.
StreamNorm add_rms_norm(const Tensor& stream, const Tensor& update, const Tensor& weight, double eps);

/// The dtype of the residual stream of a model whose weights have this one.
at::ScalarType stream_type(at::ScalarType weights);

namespace detail {

/// x [rows, E] in, either of the weight's dtype or of stream_type. With `update`, `sum` = x + update is written and
/// normalised. out [rows, E] and scale [rows] (1 / rms) are allocated by the caller.
struct RmsNormParams {
  Tensor x, update, weight;
  double eps = 0;
  Tensor sum, out, scale;
};
void rms_norm_cpu(const RmsNormParams& params);

/// x is what was normalised (the sum). grad_x [rows, E] = grad_sum (where defined) + the norm's part; the same goes
/// into grad_update where defined. grad_weight [E] has the dtype of scale.
struct RmsNormBackwardParams {
  Tensor grad, grad_sum, x, weight, scale;
  Tensor grad_x, grad_update, grad_weight;
};
void rms_norm_backward_cpu(const RmsNormBackwardParams& params);

}  // namespace detail
}  // namespace plural::kernels
