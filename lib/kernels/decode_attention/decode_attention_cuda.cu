// SPDX-License-Identifier: Apache-2.0
// CUDA twin of decode_attention: one block per (row, key head); its query heads share each key and value read.
// Online softmax over tiles of keys, so shared memory does not grow with the length.
#include <algorithm>

#include "lib/kernels/cuda_check.cuh"
#include "lib/kernels/cuda_math.cuh"
#include "lib/kernels/decode_attention/decode_attention_raw.h"

namespace plural::kernels {
namespace {

constexpr int kThreads = 128;
constexpr int kTile = 64;  // keys a round
constexpr int kRowsPerLaunch = 256;

// The rows travel as a kernel parameter (they change every step): no copy, no synchronisation.
struct Rows {
  DecodeAttentionRow row[kRowsPerLaunch];
};

struct Shape {
  int heads, kv_heads, size, capacity, window;
};

// Shared memory: q [heads, D], mixed [heads, D], score [heads, kTile], top [heads], sum [heads], of type A.
template <class T, class A>
__global__ void __launch_bounds__(kThreads)
    attend(const T* __restrict__ query, const T* __restrict__ own_keys, const T* __restrict__ own_values,
           T* __restrict__ out, Shape shape, A scale, const __grid_constant__ Rows rows) {
  extern __shared__ double shared_bytes[];
  const int heads = shape.heads / shape.kv_heads, size = shape.size, kv = blockIdx.y;
  A* q = reinterpret_cast<A*>(shared_bytes);
  A* mixed = q + heads * size;
  A* score = mixed + heads * size;
  A* top = score + heads * kTile;
  A* sum = top + heads;
  const DecodeAttentionRow& row = rows.row[blockIdx.x];
  const int prefix = row.prefix_length, total = prefix + row.own_length;
  const int first = shape.window > 0 ? max(0, total - shape.window) : 0;
  const T* shared_keys = static_cast<const T*>(row.prefix_keys) + int64_t{kv} * prefix * size;
  const T* shared_values = static_cast<const T*>(row.prefix_values) + int64_t{kv} * prefix * size;
  const int64_t own = (int64_t{row.slot} * shape.kv_heads + kv) * shape.capacity * size;
  const int64_t place = (int64_t{blockIdx.x} * shape.heads + int64_t{kv} * heads) * size;
  const auto key_at = [&](int j) {
    return j < prefix ? shared_keys + int64_t{j} * size : own_keys + own + int64_t{j - prefix} * size;
  };
  const auto value_at = [&](int j) {
    return j < prefix ? shared_values + int64_t{j} * size : own_values + own + int64_t{j - prefix} * size;
  };
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, warps = kThreads / 32;

  for (int i = threadIdx.x; i < heads * size; i += kThreads) {
    q[i] = static_cast<A>(widen(query[place + i])) * scale;
    mixed[i] = 0;
  }
  for (int h = threadIdx.x; h < heads; h += kThreads) {
    top[h] = -INFINITY;
    sum[h] = 0;
  }
  __syncthreads();

  for (int begin = first; begin < total; begin += kTile) {
    const int count = min(kTile, total - begin);
    // A warp takes a key, its lanes the elements: each key is read once for all query heads.
    for (int j = warp; j < count; j += warps) {
      const T* key = key_at(begin + j);
      for (int h = 0; h < heads; ++h) {
        A dot = 0;
        for (int x = lane; x < size; x += 32) dot += q[h * size + x] * static_cast<A>(widen(key[x]));
        dot = warp_sum(dot);
        if (lane == 0) score[h * kTile + j] = dot;
      }
    }
    __syncthreads();
    // A warp takes a head: new maximum, weights, and the correction of what was mixed before.
    for (int h = warp; h < heads; h += warps) {
      A largest = top[h];
      for (int j = lane; j < count; j += 32) largest = max(largest, score[h * kTile + j]);
      for (int offset = 16; offset > 0; offset /= 2)
        largest = max(largest, __shfl_xor_sync(0xFFFFFFFFu, largest, offset));
      A part = 0;
      for (int j = lane; j < count; j += 32) {
        const A weight = exponential(score[h * kTile + j] - largest);
        score[h * kTile + j] = weight;
        part += weight;
      }
      part = warp_sum(part);
      const A keep = exponential(top[h] - largest);  // 0 the first time
      for (int x = lane; x < size; x += 32) mixed[h * size + x] *= keep;
      __syncwarp();
      if (lane == 0) {
        sum[h] = sum[h] * keep + part;
        top[h] = largest;
      }
    }
    __syncthreads();
    for (int i = threadIdx.x; i < heads * size; i += kThreads) {
      const int h = i / size, x = i % size;
      A mix = mixed[i];
      for (int j = 0; j < count; ++j) mix += score[h * kTile + j] * static_cast<A>(widen(value_at(begin + j)[x]));
      mixed[i] = mix;
    }
    __syncthreads();
  }
  for (int i = threadIdx.x; i < heads * size; i += kThreads) narrow(mixed[i] / sum[i / size], out + place + i);
}

template <class T>
void launch(const DecodeAttentionParams& p) {
  using A = Compute<T>;
  const int64_t heads = p.heads / p.kv_heads;
  const size_t shared = sizeof(A) * heads * (2 * p.head_size + kTile + 2);
  if (shared > 48 * 1024) {
    check_cuda(
        cudaFuncSetAttribute(attend<T, A>, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared)),
        "decode_attention: shared memory for the heads of one key head");
  }
  const Shape shape{static_cast<int>(p.heads), static_cast<int>(p.kv_heads), static_cast<int>(p.head_size),
                    static_cast<int>(p.capacity), static_cast<int>(std::min<int64_t>(p.window, 1 << 30))};
  const auto stream = static_cast<cudaStream_t>(p.stream);
  const int64_t row_size = p.heads * p.head_size;
  for (int64_t begin = 0; begin < p.row_count; begin += kRowsPerLaunch) {
    const int64_t count = std::min<int64_t>(kRowsPerLaunch, p.row_count - begin);
    Rows rows;
    std::copy_n(p.rows + begin, count, rows.row);
    const dim3 grid(static_cast<unsigned>(count), static_cast<unsigned>(p.kv_heads));
    attend<T, A><<<grid, kThreads, shared, stream>>>(
        static_cast<const T*>(p.query) + begin * row_size, static_cast<const T*>(p.own_keys),
        static_cast<const T*>(p.own_values), static_cast<T*>(p.out) + begin * row_size, shape, static_cast<A>(p.scale),
        rows);
    check_cuda(cudaGetLastError(), "decode_attention");
  }
}

}  // namespace

void decode_attention_cuda(const DecodeAttentionParams& params) {
  dispatch(params.type, [&]<class T>(T*) { launch<T>(params); });
}

}  // namespace plural::kernels
