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

/// Rounds through the storage type.
template <class scalar_t, class compute_t>
PLURAL_ALWAYS_INLINE compute_t rounded(compute_t value) {
  scalar_t place;
  store(place, value);
  return load(place);
}

template <class scalar_t, class compute_t = compute_of<scalar_t>>
PLURAL_ALWAYS_INLINE compute_t forward_row(const scalar_t* x, const scalar_t* weight, int64_t size, compute_t eps,
                                           scalar_t* out) {
  compute_t squares = 0;
#pragma omp simd reduction(+ : squares)
  for (int64_t j = 0; j < size; ++j) squares += load(x[j]) * load(x[j]);
  const compute_t scale = compute_t(1) / std::sqrt(squares / static_cast<compute_t>(size) + eps);
#pragma omp simd
  for (int64_t j = 0; j < size; ++j) store(out[j], load(weight[j]) * rounded<scalar_t>(load(x[j]) * scale));
  return scale;
}

/// Adds grad * normal to weight_sum and writes grad_x.
template <class scalar_t, class compute_t = compute_of<scalar_t>>
PLURAL_ALWAYS_INLINE void backward_row(const scalar_t* grad, const scalar_t* x, const scalar_t* weight, int64_t size,
                                       compute_t scale, scalar_t* grad_x, compute_t* weight_sum) {
  compute_t dot = 0;
#pragma omp simd reduction(+ : dot)
  for (int64_t j = 0; j < size; ++j) dot += load(grad[j]) * load(weight[j]) * load(x[j]);
  const compute_t mean = dot * scale / static_cast<compute_t>(size);
#pragma omp simd
  for (int64_t j = 0; j < size; ++j) {
    const compute_t normal = load(x[j]) * scale, g = load(grad[j]);
    weight_sum[j] += g * normal;
    store(grad_x[j], scale * (g * load(weight[j]) - normal * mean));
  }
}

#define PLURAL_RMS_NORM_ROWS(scalar_t)                                                                                \
  PLURAL_CPU_CLONES void forward_rows(const scalar_t* x, const scalar_t* weight, int64_t rows, int64_t size,          \
                                      double eps, scalar_t* out, compute_of<scalar_t>* scale) {                       \
    for (int64_t i = 0; i < rows; ++i)                                                                                \
      scale[i] = forward_row(x + i * size, weight, size, static_cast<compute_of<scalar_t>>(eps), out + i * size);     \
  }                                                                                                                   \
  PLURAL_CPU_CLONES void backward_rows(const scalar_t* grad, const scalar_t* x, const scalar_t* weight, int64_t rows, \
                                       int64_t size, const compute_of<scalar_t>* scale, scalar_t* grad_x,             \
                                       compute_of<scalar_t>* weight_sum) {                                            \
    for (int64_t i = 0; i < rows; ++i)                                                                                \
      backward_row(grad + i * size, x + i * size, weight, size, scale[i], grad_x + i * size, weight_sum);             \
  }
PLURAL_RMS_NORM_ROWS(at::BFloat16)
PLURAL_RMS_NORM_ROWS(float)
PLURAL_RMS_NORM_ROWS(double)
#undef PLURAL_RMS_NORM_ROWS

}  // namespace

void rms_norm_cpu(const Tensor& x, const Tensor& weight, double eps, Tensor& out, Tensor& scale) {
  const int64_t rows = x.size(0), size = x.size(1);
  AT_DISPATCH_FLOATING_TYPES_AND(at::kBFloat16, x.scalar_type(), "rms_norm", [&] {
    using compute_t = compute_of<scalar_t>;
    const scalar_t *from = x.const_data_ptr<scalar_t>(), *factor = weight.const_data_ptr<scalar_t>();
    scalar_t* to = out.data_ptr<scalar_t>();
    compute_t* scales = scale.data_ptr<compute_t>();
    at::parallel_for(0, rows, 64, [&](int64_t begin, int64_t end) {
      forward_rows(from + begin * size, factor, end - begin, size, eps, to + begin * size, scales + begin);
    });
  });
}

void rms_norm_backward_cpu(const Tensor& grad, const Tensor& x, const Tensor& weight, const Tensor& scale,
                           Tensor& grad_x, Tensor& grad_weight) {
  const int64_t rows = x.size(0), size = x.size(1);
  // Blocks of a fixed size, added in order: the weight's gradient does not depend on the number of threads.
  constexpr int64_t kBlock = 128;
  const int64_t blocks = (rows + kBlock - 1) / kBlock;
  AT_DISPATCH_FLOATING_TYPES_AND(at::kBFloat16, x.scalar_type(), "rms_norm_backward", [&] {
    using compute_t = compute_of<scalar_t>;
    const scalar_t *upstream = grad.const_data_ptr<scalar_t>(), *from = x.const_data_ptr<scalar_t>(),
                   *factor = weight.const_data_ptr<scalar_t>();
    const compute_t* scales = scale.const_data_ptr<compute_t>();
    scalar_t* to = grad_x.data_ptr<scalar_t>();
    std::vector<compute_t> sums(blocks * size, compute_t(0));
    at::parallel_for(0, blocks, 1, [&](int64_t first, int64_t last) {
      for (int64_t block = first; block < last; ++block) {
        const int64_t begin = block * kBlock, count = std::min(kBlock, rows - begin);
        backward_rows(upstream + begin * size, from + begin * size, factor, count, size, scales + begin,
                      to + begin * size, sums.data() + block * size);
      }
    });
    compute_t* total = grad_weight.data_ptr<compute_t>();
    std::fill(total, total + size, compute_t(0));
    for (int64_t block = 0; block < blocks; ++block)
      for (int64_t j = 0; j < size; ++j) total[j] += sums[block * size + j];
  });
}

}  // namespace plural::kernels::detail
