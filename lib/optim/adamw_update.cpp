// SPDX-License-Identifier: Apache-2.0
#include "lib/optim/adamw_update.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <bit>
#include <cmath>
#include <vector>

#include "plural/error.h"

namespace plural {

namespace {

constexpr int64_t kChunk = 1 << 15;  // elements a thread takes at a time; also the grain of the norm's sums

// bfloat16 <-> float32 as plain integer work, which compilers vectorise; c10's conversions branch.
inline float widen(c10::BFloat16 x) { return std::bit_cast<float>(static_cast<uint32_t>(x.x) << 16); }
inline float widen(c10::Half x) { return static_cast<float>(x); }
inline float widen(float x) { return x; }
inline double widen(double x) { return x; }

inline void narrow(float x, c10::BFloat16& out) {
  // Round to nearest even. Weights are finite here: steps with a gradient that is not are never taken.
  const uint32_t bits = std::bit_cast<uint32_t>(x);
  out.x = static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}
inline void narrow(float x, c10::Half& out) { out = c10::Half(x); }
inline void narrow(float x, float& out) { out = x; }
inline void narrow(double x, double& out) { out = x; }

template <class P, class W>
[[gnu::always_inline]] inline void update_loop(P* __restrict parameter, W* __restrict weight, W* __restrict m,
                                               W* __restrict v, const P* __restrict gradient, int64_t n,
                                               const AdamWNumbers& numbers) {
  const W beta1 = static_cast<W>(numbers.beta1), beta2 = static_cast<W>(numbers.beta2);
  const W rest1 = static_cast<W>(1.0 - numbers.beta1), rest2 = static_cast<W>(1.0 - numbers.beta2);
  const W eps = static_cast<W>(numbers.eps), scale = static_cast<W>(numbers.grad_scale);
  const W keep = static_cast<W>(1.0 - numbers.decay), step_size = static_cast<W>(numbers.step_size);
  const W v_scale = static_cast<W>(numbers.v_scale);
  for (int64_t i = 0; i < n; ++i) {
    const W g = widen(gradient[i]) * scale;
    m[i] = beta1 * m[i] + rest1 * g;
    v[i] = beta2 * v[i] + rest2 * g * g;
    const W w = weight[i] * keep - step_size * m[i] / (std::sqrt(v[i]) * v_scale + eps);
    weight[i] = w;
    if constexpr (!std::is_same_v<P, W>) narrow(w, parameter[i]);
  }
}

// The loop once per instruction set, picked when the program starts. Products are never fused with sums (see
// CMakeLists.txt), so every set gives the same bits.
#if defined(__x86_64__)
#define PLURAL_PER_INSTRUCTION_SET __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define PLURAL_PER_INSTRUCTION_SET
#endif
PLURAL_PER_INSTRUCTION_SET void update_range(double* p, double* w, double* m, double* v, const double* g, int64_t n,
                                             const AdamWNumbers& numbers) {
  update_loop(p, w, m, v, g, n, numbers);
}
PLURAL_PER_INSTRUCTION_SET void update_range(float* p, float* w, float* m, float* v, const float* g, int64_t n,
                                             const AdamWNumbers& numbers) {
  update_loop(p, w, m, v, g, n, numbers);
}
PLURAL_PER_INSTRUCTION_SET void update_range(c10::BFloat16* p, float* w, float* m, float* v, const c10::BFloat16* g,
                                             int64_t n, const AdamWNumbers& numbers) {
  update_loop(p, w, m, v, g, n, numbers);
}
void update_range(c10::Half* p, float* w, float* m, float* v, const c10::Half* g, int64_t n,
                  const AdamWNumbers& numbers) {
  update_loop(p, w, m, v, g, n, numbers);
}

template <class P, class W>
void update_cpu(const Tensor& parameter, const Tensor& weight, const Tensor& m, const Tensor& v, const Tensor& gradient,
                const AdamWNumbers& numbers) {
  P* p = std::is_same_v<P, W> ? nullptr : parameter.mutable_data_ptr<P>();
  W *w = weight.mutable_data_ptr<W>(), *ms = m.mutable_data_ptr<W>(), *vs = v.mutable_data_ptr<W>();
  const P* g = gradient.const_data_ptr<P>();
  at::parallel_for(0, weight.numel(), kChunk, [&](int64_t begin, int64_t end) {
    update_range(p == nullptr ? nullptr : p + begin, w + begin, ms + begin, vs + begin, g + begin, end - begin,
                 numbers);
  });
}

// Any other device: the same arithmetic as whole-tensor operations.
void update_composed(const Tensor& parameter, const Tensor& weight, const Tensor& m, const Tensor& v,
                     const Tensor& gradient, const AdamWNumbers& numbers) {
  const Tensor g = gradient.to(weight.scalar_type()) * numbers.grad_scale;
  m.mul_(numbers.beta1).add_(g, 1.0 - numbers.beta1);
  v.mul_(numbers.beta2).addcmul_(g, g, 1.0 - numbers.beta2);
  weight.mul_(1.0 - numbers.decay).addcdiv_(m, v.sqrt().mul_(numbers.v_scale).add_(numbers.eps), -numbers.step_size);
  if (!weight.is_same(parameter)) parameter.copy_(weight);
}

template <class P>
double squared_norm_cpu(const Tensor& gradient) {
  const int64_t n = gradient.numel(), chunks = (n + kChunk - 1) / kChunk;
  std::vector<double> sums(static_cast<size_t>(chunks));
  const P* data = gradient.const_data_ptr<P>();
  at::parallel_for(0, chunks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t c = begin; c < end; ++c) {
      // Eight running sums, so that the order is fixed and the loop vectorises all the same.
      double lanes[8] = {};
      const P* x = data + c * kChunk;
      const int64_t count = std::min(kChunk, n - c * kChunk), whole = count / 8 * 8;
      for (int64_t i = 0; i < whole; i += 8)
        for (int64_t lane = 0; lane < 8; ++lane) {
          const double value = widen(x[i + lane]);
          lanes[lane] += value * value;
        }
      for (int64_t i = whole; i < count; ++i) lanes[0] += static_cast<double>(widen(x[i])) * widen(x[i]);
      for (double lane : lanes) sums[static_cast<size_t>(c)] += lane;
    }
  });
  double total = 0;
  for (double sum : sums) total += sum;
  return total;
}

[[noreturn]] void unsupported(const Tensor& tensor) {
  PLURAL_CHECK(false, std::string("AdamW takes float64, float32, bfloat16 and float16 parameters, got ") +
                          c10::toString(tensor.scalar_type()));
  std::abort();
}

}  // namespace

void adamw_update_(const Tensor& parameter, const Tensor& weight, const Tensor& exp_avg, const Tensor& exp_avg_sq,
                   const Tensor& gradient, const AdamWNumbers& numbers) {
  if (!weight.is_cpu()) return update_composed(parameter, weight, exp_avg, exp_avg_sq, gradient, numbers);
  if (gradient.scalar_type() == weight.scalar_type() && !weight.is_same(parameter)) {
    adamw_update_(weight, weight, exp_avg, exp_avg_sq, gradient, numbers);
    parameter.copy_(weight);
    return;
  }
  switch (parameter.scalar_type()) {
    case at::kDouble:
      return update_cpu<double, double>(parameter, weight, exp_avg, exp_avg_sq, gradient, numbers);
    case at::kFloat:
      return update_cpu<float, float>(parameter, weight, exp_avg, exp_avg_sq, gradient, numbers);
    case at::kBFloat16:
      return update_cpu<c10::BFloat16, float>(parameter, weight, exp_avg, exp_avg_sq, gradient, numbers);
    case at::kHalf:
      return update_cpu<c10::Half, float>(parameter, weight, exp_avg, exp_avg_sq, gradient, numbers);
    default:
      unsupported(parameter);
  }
}

double squared_norm(const Tensor& gradient) {
  if (!gradient.is_cpu()) {
    const at::ScalarType wide = gradient.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
    return gradient.to(wide).square().sum(at::kDouble).item<double>();
  }
  switch (gradient.scalar_type()) {
    case at::kDouble:
      return squared_norm_cpu<double>(gradient);
    case at::kFloat:
      return squared_norm_cpu<float>(gradient);
    case at::kBFloat16:
      return squared_norm_cpu<c10::BFloat16>(gradient);
    case at::kHalf:
      return squared_norm_cpu<c10::Half>(gradient);
    default:
      unsupported(gradient);
  }
}

}  // namespace plural
