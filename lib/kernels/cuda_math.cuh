// SPDX-License-Identifier: Apache-2.0
// What the CUDA kernels share: element types, the type sums are formed in, and sums over threads in a fixed order.
#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>

#include "lib/kernels/types.h"

namespace plural::kernels {

template <class T>
struct ComputeOf {
  using type = float;
};
template <>
struct ComputeOf<double> {
  using type = double;
};
/// What is computed with elements of type T: float, or double for double.
template <class T>
using Compute = typename ComputeOf<T>::type;

__device__ inline float widen(float x) { return x; }
__device__ inline double widen(double x) { return x; }
__device__ inline float widen(__nv_bfloat16 x) { return __bfloat162float(x); }
__device__ inline void narrow(float x, float* to) { *to = x; }
__device__ inline void narrow(double x, double* to) { *to = x; }
__device__ inline void narrow(float x, __nv_bfloat16* to) { *to = __float2bfloat16_rn(x); }

__device__ inline float exponential(float x) { return expf(x); }
__device__ inline double exponential(double x) { return exp(x); }

/// Sum over the lanes of a warp; every lane gets it.
template <class A>
__device__ A warp_sum(A x) {
  for (int offset = 16; offset > 0; offset /= 2) x += __shfl_xor_sync(0xFFFFFFFFu, x, offset);
  return x;
}

/// Sum over the threads of a block of whole warps; every thread gets it. `shared` holds one number a warp and may be
/// used again at once.
template <class A>
__device__ A block_sum(A x, A* shared) {
  x = warp_sum(x);
  if (threadIdx.x % 32 == 0) shared[threadIdx.x / 32] = x;
  __syncthreads();
  A sum = 0;
  for (unsigned w = 0; w < blockDim.x / 32; ++w) sum += shared[w];
  __syncthreads();
  return sum;
}

/// Calls run with a null pointer of the element type: run(static_cast<T*>(nullptr)).
template <class Run>
void dispatch(ElementType type, const Run& run) {
  switch (type) {
    case ElementType::kFloat32:
      return run(static_cast<float*>(nullptr));
    case ElementType::kBFloat16:
      return run(static_cast<__nv_bfloat16*>(nullptr));
    case ElementType::kFloat64:
      return run(static_cast<double*>(nullptr));
  }
}

/// Threads for a block that walks over `size` elements: up to kMaxWarps whole warps, some elements a thread.
constexpr int kMaxWarps = 16;
inline unsigned threads_for(int64_t size) {
  return static_cast<unsigned>(32 * std::clamp<int64_t>((size / 4 + 31) / 32, 1, kMaxWarps));
}

}  // namespace plural::kernels
