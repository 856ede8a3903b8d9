// SPDX-License-Identifier: Apache-2.0
#include <ATen/ATen.h>
#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "lib/kernels/cpu_simd.h"
#include "lib/kernels/rms_norm/rms_norm.h"

namespace plural::kernels::detail {
namespace {

template <class scalar_t>
using compute_of = std::conditional_t<std::is_same_v<scalar_t, double>, double, float>;

/// Rows of E elements: x_t is the dtype of what is normalised, scalar_t that of the weight.
template <class x_t, class scalar_t>
struct ForwardRows {
  const x_t* x;
  const scalar_t *update, *weight;  // update may be null
  x_t* sum;                         // written with an update
  scalar_t* out;
  compute_of<scalar_t>* scale;
};

template <class x_t, class scalar_t>
PLURAL_ALWAYS_INLINE void forward_body(const ForwardRows<x_t, scalar_t>& p, int64_t begin, int64_t end, int64_t size,
                                       double eps) {
  using compute_t = compute_of<scalar_t>;
  for (int64_t i = begin; i < end; ++i) {
    const x_t* x = p.x + i * size;
    if (p.update != nullptr) {
      const scalar_t* update = p.update + i * size;
      x_t* sum = p.sum + i * size;
#pragma omp simd
      for (int64_t j = 0; j < size; ++j) store(sum[j], load(x[j]) + load(update[j]));
      x = sum;
    }
    compute_t squares = 0;
#pragma omp simd reduction(+ : squares)
    for (int64_t j = 0; j < size; ++j) squares += load(x[j]) * load(x[j]);
    const compute_t scale = compute_t(1) / std::sqrt(squares / static_cast<compute_t>(size) + compute_t(eps));
    scalar_t* out = p.out + i * size;
#pragma omp simd
    for (int64_t j = 0; j < size; ++j) store(out[j], load(p.weight[j]) * (load(x[j]) * scale));
    p.scale[i] = scale;
  }
}

template <class x_t, class scalar_t>
struct BackwardRows {
  const scalar_t* grad;
  const x_t *grad_sum, *x;  // grad_sum may be null
  const scalar_t* weight;
  const compute_of<scalar_t>* scale;
  x_t* grad_x;
  scalar_t* grad_update;  // may be null
};

/// Also adds grad * normal to weight_sum [E].
template <class x_t, class scalar_t>
PLURAL_ALWAYS_INLINE void backward_body(const BackwardRows<x_t, scalar_t>& p, int64_t begin, int64_t end, int64_t size,
                                        compute_of<scalar_t>* weight_sum) {
  using compute_t = compute_of<scalar_t>;
  for (int64_t i = begin; i < end; ++i) {
    const scalar_t* grad = p.grad + i * size;
    const x_t* x = p.x + i * size;
    x_t* grad_x = p.grad_x + i * size;
    const compute_t scale = p.scale[i];
    compute_t dot = 0;
#pragma omp simd reduction(+ : dot)
    for (int64_t j = 0; j < size; ++j) dot += load(grad[j]) * load(p.weight[j]) * load(x[j]);
    const compute_t mean = dot * scale / static_cast<compute_t>(size);
#pragma omp simd
    for (int64_t j = 0; j < size; ++j) {
      const compute_t normal = load(x[j]) * scale, g = load(grad[j]);
      weight_sum[j] += g * normal;
      store(grad_x[j], scale * (g * load(p.weight[j]) - normal * mean));
    }
    if (p.grad_sum != nullptr) {
      const x_t* from_sum = p.grad_sum + i * size;
#pragma omp simd
      for (int64_t j = 0; j < size; ++j) store(grad_x[j], load(grad_x[j]) + load(from_sum[j]));
    }
    if (p.grad_update != nullptr) {
      scalar_t* grad_update = p.grad_update + i * size;
#pragma omp simd
      for (int64_t j = 0; j < size; ++j) store(grad_update[j], load(grad_x[j]));
    }
  }
}

#define PLURAL_RMS_NORM_ROWS(x_t, scalar_t)                                                                            \
  PLURAL_CPU_CLONES void forward_rows(const ForwardRows<x_t, scalar_t>& p, int64_t begin, int64_t end, int64_t size,   \
                                      double eps) {                                                                    \
    forward_body(p, begin, end, size, eps);                                                                            \
  }                                                                                                                    \
  PLURAL_CPU_CLONES void backward_rows(const BackwardRows<x_t, scalar_t>& p, int64_t begin, int64_t end, int64_t size, \
                                       compute_of<scalar_t>* weight_sum) {                                             \
    backward_body(p, begin, end, size, weight_sum);                                                                    \
  }
PLURAL_RMS_NORM_ROWS(at::BFloat16, at::BFloat16)
PLURAL_RMS_NORM_ROWS(float, at::BFloat16)
PLURAL_RMS_NORM_ROWS(float, float)
PLURAL_RMS_NORM_ROWS(double, double)
#undef PLURAL_RMS_NORM_ROWS

template <class value_t>
const value_t* data_or_null(const Tensor& x) {
  return x.defined() ? x.const_data_ptr<value_t>() : nullptr;
}

template <class x_t, class scalar_t>
void forward(const RmsNormParams& params) {
  const int64_t rows = params.x.size(0), size = params.x.size(1);
  const ForwardRows<x_t, scalar_t> p{
      params.x.const_data_ptr<x_t>(),           data_or_null<scalar_t>(params.update),
      params.weight.const_data_ptr<scalar_t>(), params.update.defined() ? params.sum.data_ptr<x_t>() : nullptr,
      params.out.data_ptr<scalar_t>(),          params.scale.data_ptr<compute_of<scalar_t>>()};
  at::parallel_for(0, rows, 64, [&](int64_t begin, int64_t end) { forward_rows(p, begin, end, size, params.eps); });
}

template <class x_t, class scalar_t>
void backward(const RmsNormBackwardParams& params) {
  using compute_t = compute_of<scalar_t>;
  const int64_t rows = params.x.size(0), size = params.x.size(1);
  // Blocks of a fixed size, added in order: the weight's gradient does not depend on the number of threads.
  constexpr int64_t kBlock = 128;
  const int64_t blocks = (rows + kBlock - 1) / kBlock;
  const BackwardRows<x_t, scalar_t> p{params.grad.const_data_ptr<scalar_t>(),
                                      data_or_null<x_t>(params.grad_sum),
                                      params.x.const_data_ptr<x_t>(),
                                      params.weight.const_data_ptr<scalar_t>(),
                                      params.scale.const_data_ptr<compute_t>(),
                                      params.grad_x.data_ptr<x_t>(),
                                      params.grad_update.defined() ? params.grad_update.data_ptr<scalar_t>() : nullptr};
  std::vector<compute_t> sums(blocks * size, compute_t(0));
  at::parallel_for(0, blocks, 1, [&](int64_t first, int64_t last) {
    for (int64_t block = first; block < last; ++block)
      backward_rows(p, block * kBlock, std::min((block + 1) * kBlock, rows), size, sums.data() + block * size);
  });
  compute_t* total = params.grad_weight.data_ptr<compute_t>();
  std::fill(total, total + size, compute_t(0));
  for (int64_t block = 0; block < blocks; ++block)
    for (int64_t j = 0; j < size; ++j) total[j] += sums[block * size + j];
}

/// Calls run<x_t, scalar_t>() for the dtypes of x and the weight.
template <class Run>
void dispatch(const Tensor& x, const Tensor& weight, const Run& run) {
  const bool wide = x.scalar_type() != at::kBFloat16;
  AT_DISPATCH_FLOATING_TYPES_AND(at::kBFloat16, weight.scalar_type(), "rms_norm", [&] {
    if (wide)
      run.template operator()<compute_of<scalar_t>, scalar_t>();
    else
      run.template operator()<at::BFloat16, at::BFloat16>();
  });
}

}  // namespace

void rms_norm_cpu(const RmsNormParams& params) {
  dispatch(params.x, params.weight, [&]<class x_t, class scalar_t>() { forward<x_t, scalar_t>(params); });
}

void rms_norm_backward_cpu(const RmsNormBackwardParams& params) {
  dispatch(params.x, params.weight, [&]<class x_t, class scalar_t>() { backward<x_t, scalar_t>(params); });
}

}  // namespace plural::kernels::detail
