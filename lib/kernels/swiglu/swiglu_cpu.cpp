// SPDX-License-Identifier: Apache-2.0
#include <ATen/ATen.h>
#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>

#include <cmath>

#include "lib/kernels/cpu_simd.h"
#include "lib/kernels/swiglu/swiglu.h"

namespace plural::kernels::detail {
namespace {

PLURAL_ALWAYS_INLINE float sigmoid(float x) { return 1.0f / (1.0f + exp_lane(-x)); }
PLURAL_ALWAYS_INLINE double sigmoid(double x) { return 1.0 / (1.0 + std::exp(-x)); }

template <class scalar_t>
PLURAL_ALWAYS_INLINE void forward_body(const scalar_t* gate, const scalar_t* up, int64_t size, scalar_t* out) {
#pragma omp simd
  for (int64_t j = 0; j < size; ++j) {
    const auto g = load(gate[j]);
    store(out[j], g * sigmoid(g) * load(up[j]));
  }
}

template <class scalar_t>
PLURAL_ALWAYS_INLINE void backward_body(const scalar_t* grad, const scalar_t* gate, const scalar_t* up, int64_t size,
                                        scalar_t* grad_gate, scalar_t* grad_up) {
#pragma omp simd
  for (int64_t j = 0; j < size; ++j) {
    const auto g = load(gate[j]), s = sigmoid(g), upstream = load(grad[j]);
    store(grad_gate[j], upstream * load(up[j]) * s * (1 + g * (1 - s)));
    store(grad_up[j], upstream * g * s);
  }
}

#define PLURAL_SWIGLU_ROWS(scalar_t)                                                                                \
  PLURAL_CPU_CLONES void forward_row(const scalar_t* gate, const scalar_t* up, int64_t size, scalar_t* out) {       \
    forward_body(gate, up, size, out);                                                                              \
  }                                                                                                                 \
  PLURAL_CPU_CLONES void backward_row(const scalar_t* grad, const scalar_t* gate, const scalar_t* up, int64_t size, \
                                      scalar_t* grad_gate, scalar_t* grad_up) {                                     \
    backward_body(grad, gate, up, size, grad_gate, grad_up);                                                        \
  }
PLURAL_SWIGLU_ROWS(at::BFloat16)
PLURAL_SWIGLU_ROWS(float)
PLURAL_SWIGLU_ROWS(double)
#undef PLURAL_SWIGLU_ROWS

}  // namespace

Tensor swiglu_cpu(const Tensor& gate, const Tensor& up) {
  const int64_t rows = gate.size(0), size = gate.size(1);
  Tensor out = at::empty({rows, size}, gate.options());
  AT_DISPATCH_FLOATING_TYPES_AND(at::kBFloat16, gate.scalar_type(), "swiglu", [&] {
    const scalar_t *gates = gate.const_data_ptr<scalar_t>(), *ups = up.const_data_ptr<scalar_t>();
    scalar_t* to = out.data_ptr<scalar_t>();
    at::parallel_for(0, rows, 16, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i)
        forward_row(gates + i * gate.stride(0), ups + i * up.stride(0), size, to + i * size);
    });
  });
  return out;
}

void swiglu_backward_cpu(const Tensor& grad, const Tensor& gate, const Tensor& up, Tensor& grad_gate, Tensor& grad_up) {
  const int64_t rows = gate.size(0), size = gate.size(1);
  AT_DISPATCH_FLOATING_TYPES_AND(at::kBFloat16, gate.scalar_type(), "swiglu_backward", [&] {
    const scalar_t *upstream = grad.const_data_ptr<scalar_t>(), *gates = gate.const_data_ptr<scalar_t>(),
                   *ups = up.const_data_ptr<scalar_t>();
    scalar_t *to_gate = grad_gate.data_ptr<scalar_t>(), *to_up = grad_up.data_ptr<scalar_t>();
    at::parallel_for(0, rows, 16, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i)
        backward_row(upstream + i * size, gates + i * gate.stride(0), ups + i * up.stride(0), size, to_gate + i * size,
                     to_up + i * size);
    });
  });
}

}  // namespace plural::kernels::detail
