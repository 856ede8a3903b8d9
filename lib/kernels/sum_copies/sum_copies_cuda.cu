// SPDX-License-Identifier: Apache-2.0
// CUDA twin of sum_copies: a thread an element of the result.
#include "lib/kernels/cuda_check.cuh"
#include "lib/kernels/cuda_math.cuh"
#include "lib/kernels/sum_copies/sum_copies_raw.h"

namespace plural::kernels {
namespace {

constexpr int kThreads = 256;

template <class T>
__global__ void __launch_bounds__(kThreads) sum(const SumCopiesRaw p) {
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= p.rows * p.size) return;
  const int64_t row = i / p.size, column = i % p.size;
  Compute<T> total = 0;
  for (int64_t c = p.begin[row]; c < p.begin[row + 1]; ++c)
    total += static_cast<Compute<T>>(widen(static_cast<const T*>(p.copies)[p.place[c] * p.size + column]));
  narrow(total, static_cast<T*>(p.out) + i);
}

}  // namespace

void sum_copies_cuda(const SumCopiesRaw& p) {
  const int64_t blocks = (p.rows * p.size + kThreads - 1) / kThreads;
  dispatch(p.type, [&]<class T>(T*) {
    sum<T><<<static_cast<unsigned>(blocks), kThreads, 0, static_cast<cudaStream_t>(p.stream)>>>(p);
  });
  check_cuda(cudaGetLastError(), "sum_copies");
}

}  // namespace plural::kernels
