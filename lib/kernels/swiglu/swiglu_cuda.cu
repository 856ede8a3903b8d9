// SPDX-License-Identifier: Apache-2.0
// CUDA twin of swiglu: a thread an element.
#include "lib/kernels/cuda_check.cuh"
#include "lib/kernels/cuda_math.cuh"
#include "lib/kernels/swiglu/swiglu_raw.h"

namespace plural::kernels {
namespace {

constexpr int kThreads = 256;

template <class T, bool kBackward>
__global__ void __launch_bounds__(kThreads) gate_rows(const SwigluRaw p) {
  using A = Compute<T>;
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= p.rows * p.size) return;
  const int64_t row = i / p.size, column = i % p.size;
  const A g = widen(static_cast<const T*>(p.gate)[row * p.gate_stride + column]);
  const A u = widen(static_cast<const T*>(p.up)[row * p.up_stride + column]);
  const A s = A(1) / (A(1) + exponential(-g));
  if constexpr (kBackward) {
    const A upstream = widen(static_cast<const T*>(p.grad)[i]);
    narrow(upstream * u * s * (A(1) + g * (A(1) - s)), static_cast<T*>(p.grad_gate) + i);
    narrow(upstream * g * s, static_cast<T*>(p.grad_up) + i);
  } else {
    narrow(g * s * u, static_cast<T*>(p.out) + i);
  }
}

template <bool kBackward>
void launch(const SwigluRaw& p, const char* what) {
  const int64_t blocks = (p.rows * p.size + kThreads - 1) / kThreads;
  dispatch(p.type, [&]<class T>(T*) {
    gate_rows<T, kBackward><<<static_cast<unsigned>(blocks), kThreads, 0, static_cast<cudaStream_t>(p.stream)>>>(p);
  });
  check_cuda(cudaGetLastError(), what);
}

}  // namespace

void swiglu_cuda(const SwigluRaw& params) { launch<false>(params, "swiglu"); }

void swiglu_backward_cuda(const SwigluRaw& params) { launch<true>(params, "swiglu_backward"); }

}  // namespace plural::kernels
