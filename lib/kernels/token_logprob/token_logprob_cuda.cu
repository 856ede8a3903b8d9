// SPDX-License-Identifier: Apache-2.0
// CUDA twin of the loops over a chunk of logits: one block a row, which is read twice forward (the second time from the
// cache) and once in backward.
#include "lib/kernels/cuda_check.cuh"
#include "lib/kernels/cuda_math.cuh"
#include "lib/kernels/token_logprob/token_logprob_raw.h"

namespace plural::kernels {
namespace {

constexpr int kThreads = 512, kWarps = kThreads / 32;

template <class T>
__global__ void __launch_bounds__(kThreads) statistics(const LogitsRaw p) {
  using A = Compute<T>;
  __shared__ A tops[kWarps];
  __shared__ double warps[kWarps];
  const int64_t row = blockIdx.x;
  const T* logits = static_cast<const T*>(p.logits) + row * p.vocabulary;
  const A scale = static_cast<A>(p.scale);
  A top = -INFINITY;
  for (int64_t j = threadIdx.x; j < p.vocabulary; j += kThreads) top = max(top, static_cast<A>(widen(logits[j])));
  for (int offset = 16; offset > 0; offset /= 2) top = max(top, __shfl_xor_sync(0xFFFFFFFFu, top, offset));
  if (threadIdx.x % 32 == 0) tops[threadIdx.x / 32] = top;
  __syncthreads();
  for (int w = 0; w < kWarps; ++w) top = max(top, tops[w]);
  top *= scale;
  // A thread adds some hundred terms in float32; the threads' sums are added in float64.
  A sum = 0, weighted = 0;
  for (int64_t j = threadIdx.x; j < p.vocabulary; j += kThreads) {
    const A x = static_cast<A>(widen(logits[j])) * scale - top;
    const A e = exponential(x);
    sum += e;
    weighted += e > 0 ? e * x : A(0);  // a logit of -inf weighs nothing
  }
  const double exponentials = block_sum(static_cast<double>(sum), warps);
  const double mean = block_sum(static_cast<double>(weighted), warps) / exponentials;
  if (threadIdx.x != 0) return;
  const double log_exponentials = log(exponentials);
  static_cast<A*>(p.log_sum)[row] = static_cast<A>(static_cast<double>(top) + log_exponentials);
  // Through the maximum, so that a probability near 1 keeps its digits.
  const A target = static_cast<A>(widen(logits[p.target[row]])) * scale;
  static_cast<A*>(p.log_prob)[row] = static_cast<A>(static_cast<double>(target) - top - log_exponentials);
  if (p.entropy != nullptr) static_cast<A*>(p.entropy)[row] = static_cast<A>(log_exponentials - mean);
}

/// d/dlogit_j = scale * (grad_log_prob * (target_j - p_j) - grad_entropy * p_j * (ln p_j + H))
template <class T>
__global__ void __launch_bounds__(kThreads) gradient(const LogitsRaw p) {
  using A = Compute<T>;
  const int64_t row = blockIdx.x;
  T* logits = static_cast<T*>(p.logits) + row * p.vocabulary;
  const A scale = static_cast<A>(p.scale), log_sum = static_cast<const A*>(p.log_sum)[row];
  const A from_log_prob = scale * static_cast<const A*>(p.grad_log_prob)[row];
  const A from_entropy = p.grad_entropy != nullptr ? scale * static_cast<const A*>(p.grad_entropy)[row] : A(0);
  const A entropy = p.grad_entropy != nullptr ? static_cast<const A*>(p.entropy)[row] : A(0);
  const int64_t target = p.target[row];
  for (int64_t j = threadIdx.x; j < p.vocabulary; j += kThreads) {
    const A log_p = static_cast<A>(widen(logits[j])) * scale - log_sum;
    const A probability = exponential(log_p);
    A result = from_log_prob * ((j == target ? A(1) : A(0)) - probability);
    if (from_entropy != 0 && probability > 0) result -= from_entropy * probability * (log_p + entropy);
    narrow(result, logits + j);
  }
}

}  // namespace

void logit_statistics_cuda(const LogitsRaw& p) {
  dispatch(p.type, [&]<class T>(T*) {
    statistics<T><<<static_cast<unsigned>(p.rows), kThreads, 0, static_cast<cudaStream_t>(p.stream)>>>(p);
  });
  check_cuda(cudaGetLastError(), "logit_statistics");
}

void logit_gradient_cuda(const LogitsRaw& p) {
  dispatch(p.type, [&]<class T>(T*) {
    gradient<T><<<static_cast<unsigned>(p.rows), kThreads, 0, static_cast<cudaStream_t>(p.stream)>>>(p);
  });
  check_cuda(cudaGetLastError(), "logit_gradient");
}

}  // namespace plural::kernels
