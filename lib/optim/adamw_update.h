// SPDX-License-Identifier: Apache-2.0
// The arithmetic of one AdamW update over one parameter, and the squared norm of a gradient. The CPU loops
// read and write every array once, as the work is bound by memory.
#pragma once

#include "plural/tensor.h"

namespace plural {

/// Numbers of one optimiser step. With g the gradient times grad_scale:
///   w <- w (1 - decay) - step_size m / (sqrt(v) * v_scale + eps)
struct AdamWNumbers {
  double beta1 = 0, beta2 = 0, eps = 0;
  double grad_scale = 1;  ///< clipping
  double decay = 0;       ///< learning rate x weight decay
  double step_size = 0;   ///< learning rate / (1 - beta1^t)
  double v_scale = 1;     ///< 1 / sqrt(1 - beta2^t)
};

/// Updates in place. All tensors are contiguous, of one size and device. `weight` (the master, or the
/// parameter itself) and the moments are float32, or float64 for float64 parameters; `gradient` is of the
/// parameter's dtype or of that of `weight`. When `weight` is not `parameter`, its rounding is written to `parameter`.
void adamw_update_(const Tensor& parameter, const Tensor& weight, const Tensor& exp_avg, const Tensor& exp_avg_sq,
                   const Tensor& gradient, const AdamWNumbers& numbers);

/// Sum of squares in float64; the same bits for any number of threads.
double squared_norm(const Tensor& gradient);

}  // namespace plural
