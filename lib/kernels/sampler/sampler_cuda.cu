// SPDX-License-Identifier: Apache-2.0
// CUDA twin of sample(): one block a row. Same stream of numbers and same definition as sampler_cpu.cpp; exp and the
// order of sums differ in the last bits, so a draw may differ where the number falls on a border between two tokens.
// The edge of top-k and top-p is found by radix selection with integer sums, so a run repeats itself exactly.
#include <cuda_runtime.h>

#include <algorithm>

#include "lib/kernels/cuda_check.cuh"
#include "lib/kernels/sampler/draw.h"
#include "lib/kernels/sampler/sampler_raw.h"

namespace plural::kernels {
namespace {

constexpr int kThreads = 1024;
constexpr int kWarps = kThreads / 32;
constexpr int kRowsPerLaunch = 256;
constexpr unsigned kAll = 0xFFFFFFFFu;
constexpr double kMassUnit = 0x1.0p40;  // weights are at most 1; V of them fit 64 bits up to V = 2^23

// The draws travel as a kernel parameter: no copy, no synchronisation.
struct Draws {
  DrawPlace place[kRowsPerLaunch];
};

/// What a row's threads share.
struct Shared {
  float top[kWarps];
  int top_id[kWarps];
  double sum[kWarps];
  unsigned count[256];
  unsigned long long mass[256];
  // The state of a selection, written by thread 0.
  unsigned digit, before_count, ties;
  unsigned long long before_mass, target;
  int tie_id;
};

/// The last token that a filter keeps: larger keys first, then lower ids. The default keeps everything.
struct Edge {
  unsigned key = 0;
  int id = 0x7FFFFFFF;
  __device__ bool keeps(unsigned k, int i) const { return k > key || (k == key && i <= id); }
};

struct Row {
  const float* logits;
  int drawable, vocab;
  float top, inverse_temperature;
  __device__ float weight(int i) const { return expf((logits[i] - top) * inverse_temperature); }
  /// Unsigned numbers in the order of the logits; both zeros are equal.
  __device__ unsigned key(int i) const {
    const unsigned bits = __float_as_uint(logits[i] + 0.0F);
    return (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
  }
};

/// Every thread gets the sum over the block; the order of additions is fixed.
__device__ double block_sum(double x, Shared& shared) {
  for (int offset = 16; offset > 0; offset /= 2) x += __shfl_xor_sync(kAll, x, offset);
  __syncthreads();
  if (threadIdx.x % 32 == 0) shared.sum[threadIdx.x / 32] = x;
  __syncthreads();
  double sum = 0;
  for (int w = 0; w < kWarps; ++w) sum += shared.sum[w];
  return sum;
}

/// The largest drawable logit and the lowest id that has it.
__device__ void find_top(Row& row, int& id, Shared& shared) {
  float top = -INFINITY;
  id = 0x7FFFFFFF;
  for (int i = threadIdx.x; i < row.drawable; i += kThreads) {
    if (row.logits[i] > top) top = row.logits[i], id = i;
  }
  const auto better = [](float x, int i, float y, int j) { return x > y || (x == y && i < j); };
  for (int offset = 16; offset > 0; offset /= 2) {
    const float other = __shfl_xor_sync(kAll, top, offset);
    const int other_id = __shfl_xor_sync(kAll, id, offset);
    if (better(other, other_id, top, id)) top = other, id = other_id;
  }
  if (threadIdx.x % 32 == 0) shared.top[threadIdx.x / 32] = top, shared.top_id[threadIdx.x / 32] = id;
  __syncthreads();
  for (int w = 0; w < kWarps; ++w) {
    if (better(shared.top[w], shared.top_id[w], top, id)) top = shared.top[w], id = shared.top_id[w];
  }
  row.top = top;
}

/// The id of the n-th (from 1) drawable token with `key`; called by one warp.
__device__ int nth_with_key(const Row& row, unsigned key, unsigned n) {
  const int lane = threadIdx.x % 32;
  for (int begin = 0; begin < row.drawable; begin += 32) {
    const bool hit = begin + lane < row.drawable && row.key(begin + lane) == key;
    unsigned hits = __ballot_sync(kAll, hit);
    if (n > __popc(hits)) {
      n -= __popc(hits);
      continue;
    }
    for (; n > 1; --n) hits &= hits - 1;
    return begin + __ffs(hits) - 1;
  }
  return 0x7FFFFFFF;
}

/// The edge after the `k` first tokens (k > 0), or after the fewest first tokens with `share` of `mass` (k = 0;
/// mass 0 = of everything). `mass` becomes what is kept.
__device__ Edge select(const Row& row, unsigned k, double share, unsigned long long& mass, Shared& shared) {
  unsigned prefix = 0, mask = 0;
  if (threadIdx.x == 0) shared.before_count = 0, shared.before_mass = 0;
  for (int shift = 24; shift >= 0; shift -= 8) {
    if (threadIdx.x < 256) shared.count[threadIdx.x] = 0, shared.mass[threadIdx.x] = 0;
    __syncthreads();
    for (int i = threadIdx.x; i < row.drawable; i += kThreads) {
      const unsigned key = row.key(i);
      if ((key & mask) != prefix) continue;
      const unsigned digit = (key >> shift) & 255;
      atomicAdd(&shared.count[digit], 1u);
      atomicAdd(&shared.mass[digit], static_cast<unsigned long long>(row.weight(i) * kMassUnit));
    }
    __syncthreads();
    if (threadIdx.x == 0) {
      if (shift == 24) {
        unsigned long long all = mass;
        if (mass == 0) {
          for (int d = 0; d < 256; ++d) all += shared.mass[d];
        }
        shared.target = static_cast<unsigned long long>(ceil(share * static_cast<double>(all)));
      }
      unsigned chosen = 0;
      for (int d = 255; d >= 0; --d) {
        if (shared.count[d] == 0) continue;
        chosen = d;
        const bool enough = k > 0 ? shared.before_count + shared.count[d] >= k
                                  : shared.before_mass + shared.mass[d] >= shared.target;
        if (enough) break;
        shared.before_count += shared.count[d];
        shared.before_mass += shared.mass[d];
      }
      shared.digit = chosen;
      shared.ties = shared.count[chosen];
    }
    __syncthreads();
    prefix |= shared.digit << shift;
    mask |= 255u << shift;
    __syncthreads();
  }
  // All tokens left have one logit, so one weight; keep the lowest ids of them, as many as are needed.
  const unsigned long long each = shared.mass[shared.digit] / max(shared.ties, 1u);
  unsigned long long need = k > shared.before_count ? k - shared.before_count : 1;
  if (k == 0) {
    const unsigned long long missing = shared.target > shared.before_mass ? shared.target - shared.before_mass : 0;
    need = each == 0 ? shared.ties : max((missing + each - 1) / each, 1ull);
  }
  need = min(need, static_cast<unsigned long long>(shared.ties));
  mass = shared.before_mass + need * each;
  Edge edge;
  edge.key = prefix;
  if (need < shared.ties) {
    if (threadIdx.x < 32) {
      const int id = nth_with_key(row, prefix, static_cast<unsigned>(need));
      if (threadIdx.x == 0) shared.tie_id = id;
    }
    __syncthreads();
    edge.id = shared.tie_id;
  }
  __syncthreads();
  return edge;
}

__global__ void __launch_bounds__(kThreads) sample_rows(SampleParams p, const __grid_constant__ Draws draws) {
  __shared__ Shared shared;
  const int64_t r = blockIdx.x;
  Row row{p.logits + r * p.vocab, static_cast<int>(p.drawable), static_cast<int>(p.vocab), 0.0F,
          p.temperature == 0 ? 1.0F : 1.0F / p.temperature};
  int id = 0;
  find_top(row, id, shared);

  // Each warp has one stretch of ids, so that the drawn one is found by looking at one warp's stretch again.
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int stretch = (row.drawable + kThreads - 1) / kThreads * 32;
  const int begin = min(warp * stretch, row.drawable), end = min(begin + stretch, row.drawable);
  double part = 0;
  for (int i = begin + lane; i < end; i += 32) part += row.weight(i);
  double rest = 0;
  for (int i = row.drawable + threadIdx.x; i < row.vocab; i += kThreads) rest += row.weight(i);
  const double total = block_sum(part, shared) + block_sum(rest, shared);
  if (!isfinite(total)) {
    if (threadIdx.x == 0) p.ids[r] = 0, p.log_prob[r] = NAN;
    return;
  }

  if (p.temperature > 0) {
    Edge first, second;
    unsigned long long mass = 0;
    if (p.top_k > 0) first = select(row, static_cast<unsigned>(p.top_k), 0, mass, shared);
    if (p.top_p < 1) second = select(row, 0, p.top_p, mass, shared);
    // The weight a token is drawn with: 0 when a filter drops it.
    const auto kept = [&](int i) {
      const float weight = row.weight(i);
      const unsigned key = row.key(i);
      return first.keeps(key, i) && second.keeps(key, i) && (weight >= p.min_p || row.logits[i] == row.top) ? weight
                                                                                                            : 0.0F;
    };
    part = 0;
    for (int i = begin + lane; i < end; i += 32) part += kept(i);
    block_sum(part, shared);  // leaves the warps' sums in shared.sum
    double all = 0;
    for (int w = 0; w < kWarps; ++w) all += shared.sum[w];
    const DrawPlace& place = draws.place[r];
    const double target = all * draw_uniform(p.key, p.step, static_cast<uint32_t>(place.row),
                                             static_cast<uint32_t>(place.token));
    // The stretch where the running sum passes the target; the last one with any mass when rounding leads past the end.
    double sum = 0, before = 0;
    int chosen = 0;
    for (int w = 0; w < kWarps && sum <= target; ++w) {
      if (shared.sum[w] == 0) continue;
      chosen = w;
      before = sum;
      sum += shared.sum[w];
    }
    sum = before;
    if (warp != chosen) return;
    int last = begin;
    for (int from = begin; from < end; from += 32) {
      const float weight = from + lane < end ? kept(from + lane) : 0.0F;
      double running = weight;  // inclusive sum over the lanes
      for (int offset = 1; offset < 32; offset *= 2) {
        const double other = __shfl_up_sync(kAll, running, offset);
        if (lane >= offset) running += other;
      }
      const unsigned any = __ballot_sync(kAll, weight > 0);
      const unsigned past = __ballot_sync(kAll, weight > 0 && sum + running > target);
      if (any != 0) last = from + 31 - __clz(any);
      if (past != 0) {
        last = from + __ffs(past) - 1;
        break;
      }
      sum += __shfl_sync(kAll, running, 31);
    }
    id = last;
    if (lane != 0) return;
  } else if (threadIdx.x != 0) {
    return;
  }
  p.ids[r] = id;
  p.log_prob[r] = static_cast<float>((static_cast<double>(row.logits[id]) - row.top) * row.inverse_temperature -
                                     log(total));
}

}  // namespace

void sample_cuda(const SampleParams& params) {
  const auto stream = static_cast<cudaStream_t>(params.stream);
  for (int64_t begin = 0; begin < params.row_count; begin += kRowsPerLaunch) {
    const int64_t count = std::min<int64_t>(kRowsPerLaunch, params.row_count - begin);
    SampleParams part = params;
    part.logits += begin * params.vocab;
    part.ids += begin;
    part.log_prob += begin;
    part.rows = nullptr;  // host memory; the kernel reads `draws`
    Draws draws;
    std::copy_n(params.rows + begin, count, draws.place);
    sample_rows<<<static_cast<unsigned>(count), kThreads, 0, stream>>>(part, draws);
    check_cuda(cudaGetLastError(), "sample");
  }
}

}  // namespace plural::kernels
