// SPDX-License-Identifier: Apache-2.0
#include "lib/models/layers.h"

#include <ATen/ATen.h>

namespace plural {

Tensor rms_norm(const Tensor& x, const Tensor& weight, double eps) {
  const at::ScalarType compute = x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  const Tensor wide = x.to(compute);
  const Tensor normal = wide * at::rsqrt(wide.square().mean(-1, true) + eps);
  return weight * normal.to(x.scalar_type());
}

Tensor apply_rotary(const Tensor& x, const RotaryAngles& angles) {
  const Tensor cos = angles.cos.unsqueeze(1), sin = angles.sin.unsqueeze(1);
  const auto halves = x.chunk(2, -1);
  return at::cat({halves[0] * cos - halves[1] * sin, halves[1] * cos + halves[0] * sin}, -1);
}

Tensor swiglu(const Tensor& gate, const Tensor& up) { return at::silu(gate) * up; }

}  // namespace plural
