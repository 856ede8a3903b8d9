// SPDX-License-Identifier: Apache-2.0
#include <ATen/ATen.h>
#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>

#include "lib/kernels/cpu_simd.h"
#include "lib/kernels/rotary/rotary.h"

namespace plural::kernels::detail {
namespace {

template <class scalar_t>
PLURAL_ALWAYS_INLINE void rotate_token(const scalar_t* __restrict x, const scalar_t* __restrict cos,
                                       const scalar_t* __restrict sin, int64_t heads, int64_t half, bool inverse,
                                       scalar_t* __restrict out) {
  using compute_t = std::conditional_t<std::is_same_v<scalar_t, double>, double, float>;
  const compute_t sign = inverse ? compute_t(-1) : compute_t(1);
  for (int64_t h = 0; h < heads; ++h, x += 2 * half, out += 2 * half) {
#pragma omp simd
    for (int64_t j = 0; j < half; ++j) {
      const compute_t a = load(x[j]), b = load(x[j + half]), c = load(cos[j]), s = sign * load(sin[j]);
      store(out[j], a * c - b * s);
      store(out[j + half], b * c + a * s);
    }
  }
}

#define PLURAL_ROTARY_TOKENS(scalar_t)                                                                                \
  PLURAL_CPU_CLONES void rotate_tokens(const scalar_t* x, int64_t stride, const scalar_t* cos, const scalar_t* sin,   \
                                       int64_t tokens, int64_t heads, int64_t half, bool inverse, scalar_t* out) {    \
    for (int64_t n = 0; n < tokens; ++n)                                                                              \
      rotate_token(x + n * stride, cos + n * half, sin + n * half, heads, half, inverse, out + n * heads * 2 * half); \
  }
PLURAL_ROTARY_TOKENS(at::BFloat16)
PLURAL_ROTARY_TOKENS(float)
PLURAL_ROTARY_TOKENS(double)
#undef PLURAL_ROTARY_TOKENS

}  // namespace

Tensor rotary_cpu(const Tensor& x, const Tensor& cos, const Tensor& sin, bool inverse) {
  const int64_t tokens = x.size(0), heads = x.size(1), size = x.size(2);
  const bool rows_are_dense = x.stride(2) == 1 && (heads == 1 || x.stride(1) == size);
  const Tensor source = rows_are_dense ? x : x.contiguous();
  Tensor out = at::empty({tokens, heads, size}, x.options());
  AT_DISPATCH_FLOATING_TYPES_AND(at::kBFloat16, x.scalar_type(), "rotary", [&] {
    const scalar_t *from = source.const_data_ptr<scalar_t>(), *c = cos.const_data_ptr<scalar_t>(),
                   *s = sin.const_data_ptr<scalar_t>();
    scalar_t* to = out.data_ptr<scalar_t>();
    const int64_t stride = source.stride(0), half = size / 2;
    at::parallel_for(0, tokens, 64, [&](int64_t begin, int64_t end) {
      rotate_tokens(from + begin * stride, stride, c + begin * half, s + begin * half, end - begin, heads, half,
                    inverse, to + begin * heads * size);
    });
  });
  return out;
}

}  // namespace plural::kernels::detail
