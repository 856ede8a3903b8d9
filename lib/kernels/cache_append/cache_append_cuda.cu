// SPDX-License-Identifier: Apache-2.0
// CUDA twin of cache_append: a thread an element, keys and values in one launch.
#include "lib/kernels/cache_append/cache_append_raw.h"
#include "lib/kernels/cuda_check.cuh"
#include "lib/kernels/cuda_math.cuh"

namespace plural::kernels {
namespace {

constexpr int kThreads = 256;

template <class T>
__global__ void __launch_bounds__(kThreads) append(const CacheAppendRaw p) {
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x, row_size = p.kv_heads * p.size;
  if (i >= p.rows * row_size) return;
  const int64_t row = i / row_size, column = i % row_size, head = column / p.size;
  const int64_t to = ((p.slots[row] * p.kv_heads + head) * p.capacity + p.places[row]) * p.size + column % p.size;
  static_cast<T*>(p.row_keys)[to] = static_cast<const T*>(p.keys)[row * p.key_stride + column];
  static_cast<T*>(p.row_values)[to] = static_cast<const T*>(p.values)[row * p.value_stride + column];
}

}  // namespace

void cache_append_cuda(const CacheAppendRaw& p) {
  const int64_t blocks = (p.rows * p.kv_heads * p.size + kThreads - 1) / kThreads;
  dispatch(p.type, [&]<class T>(T*) {
    append<T><<<static_cast<unsigned>(blocks), kThreads, 0, static_cast<cudaStream_t>(p.stream)>>>(p);
  });
  check_cuda(cudaGetLastError(), "cache_append");
}

}  // namespace plural::kernels
