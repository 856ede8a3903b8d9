// SPDX-License-Identifier: Apache-2.0
// CUDA twin of rotary: a thread rotates one pair.
#include "lib/kernels/cuda_check.cuh"
#include "lib/kernels/cuda_math.cuh"
#include "lib/kernels/rotary/rotary_raw.h"

namespace plural::kernels {
namespace {

constexpr int kThreads = 256;

template <class T>
__global__ void __launch_bounds__(kThreads) rotate(const RotaryRaw p) {
  using A = Compute<T>;
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  const int64_t j = i % p.half, head = i / p.half % p.heads, token = i / p.half / p.heads;
  if (token >= p.tokens) return;
  const T* x = static_cast<const T*>(p.x) + token * p.token_stride + head * p.head_stride + j;
  const A a = widen(x[0]), b = widen(x[p.half]), c = widen(static_cast<const T*>(p.cos)[token * p.half + j]);
  const A s = (p.inverse ? A(-1) : A(1)) * static_cast<A>(widen(static_cast<const T*>(p.sin)[token * p.half + j]));
  T* out = static_cast<T*>(p.out) + (token * p.heads + head) * 2 * p.half + j;
  narrow(a * c - b * s, out);
  narrow(b * c + a * s, out + p.half);
}

}  // namespace

void rotary_cuda(const RotaryRaw& p) {
  const int64_t blocks = (p.tokens * p.heads * p.half + kThreads - 1) / kThreads;
  dispatch(p.type, [&]<class T>(T*) {
    rotate<T><<<static_cast<unsigned>(blocks), kThreads, 0, static_cast<cudaStream_t>(p.stream)>>>(p);
  });
  check_cuda(cudaGetLastError(), "rotary");
}

}  // namespace plural::kernels
