// SPDX-License-Identifier: Apache-2.0
// CUDA twin of RMS norm. Forward: one block a row. Backward: a block takes every parts-th row and keeps its share of
// the weight's gradient in shared memory. No atomic operations: the same bits every time.
#include "lib/kernels/cuda_check.cuh"
#include "lib/kernels/cuda_math.cuh"
#include "lib/kernels/rms_norm/rms_norm_raw.h"

namespace plural::kernels {
namespace {

template <class X, class W>
__global__ void normalise(const X* __restrict__ all_x, const W* __restrict__ all_update, const W* __restrict__ weight,
                          X* __restrict__ all_sum, W* __restrict__ all_out, Compute<W>* __restrict__ scales, int size,
                          Compute<W> eps) {
  using A = Compute<W>;
  __shared__ A warps[kMaxWarps];
  const int64_t begin = int64_t{blockIdx.x} * size;
  const X* x = all_x + begin;
  A squares = 0;
  if (all_update != nullptr) {
    X* sum = all_sum + begin;
    for (int j = threadIdx.x; j < size; j += blockDim.x) {
      narrow(static_cast<A>(widen(x[j])) + static_cast<A>(widen(all_update[begin + j])), sum + j);
      const A value = widen(sum[j]);
      squares += value * value;
    }
    x = sum;  // a thread reads again what it wrote itself
  } else {
    for (int j = threadIdx.x; j < size; j += blockDim.x) {
      const A value = widen(x[j]);
      squares += value * value;
    }
  }
  const A scale = A(1) / sqrt(block_sum(squares, warps) / static_cast<A>(size) + eps);
  for (int j = threadIdx.x; j < size; j += blockDim.x)
    narrow(static_cast<A>(widen(weight[j])) * (static_cast<A>(widen(x[j])) * scale), all_out + begin + j);
  if (threadIdx.x == 0) scales[blockIdx.x] = scale;
}

template <class X, class W>
__global__ void differentiate(const RmsNormBackwardRaw p) {
  using A = Compute<W>;
  extern __shared__ double shared_bytes[];
  __shared__ A warps[kMaxWarps];
  A* weight_sum = reinterpret_cast<A*>(shared_bytes);  // [E]; a thread sees its own columns only
  const int size = static_cast<int>(p.size);
  const W* weight = static_cast<const W*>(p.weight);
  for (int j = threadIdx.x; j < size; j += blockDim.x) weight_sum[j] = 0;
  for (int64_t row = blockIdx.x; row < p.rows; row += p.parts) {
    const int64_t begin = row * size;
    const W* grad = static_cast<const W*>(p.grad) + begin;
    const X* x = static_cast<const X*>(p.x) + begin;
    const A scale = static_cast<const A*>(p.scale)[row];
    A dot = 0;
    for (int j = threadIdx.x; j < size; j += blockDim.x)
      dot += static_cast<A>(widen(grad[j])) * static_cast<A>(widen(weight[j])) * static_cast<A>(widen(x[j]));
    const A mean = block_sum(dot, warps) * scale / static_cast<A>(size);
    for (int j = threadIdx.x; j < size; j += blockDim.x) {
      const A normal = static_cast<A>(widen(x[j])) * scale, g = widen(grad[j]);
      weight_sum[j] += g * normal;
      A result = scale * (g * static_cast<A>(widen(weight[j])) - normal * mean);
      if (p.grad_sum != nullptr) result += static_cast<A>(widen(static_cast<const X*>(p.grad_sum)[begin + j]));
      narrow(result, static_cast<X*>(p.grad_x) + begin + j);
      if (p.grad_update != nullptr) narrow(result, static_cast<W*>(p.grad_update) + begin + j);
    }
  }
  A* part = static_cast<A*>(p.weight_parts) + int64_t{blockIdx.x} * size;
  for (int j = threadIdx.x; j < size; j += blockDim.x) part[j] = weight_sum[j];
}

/// Calls run with null pointers of x's type and the weight's: x is of the weight's type, or the stream of a bfloat16
/// model in float32.
template <class Run>
void dispatch_norm(ElementType x_type, ElementType weight_type, const Run& run) {
  if (weight_type == ElementType::kBFloat16 && x_type == ElementType::kFloat32)
    return run(static_cast<float*>(nullptr), static_cast<__nv_bfloat16*>(nullptr));
  dispatch(weight_type, [&](auto* type) { run(type, type); });
}

}  // namespace

void rms_norm_cuda(const RmsNormRaw& p) {
  dispatch_norm(p.x_type, p.weight_type, [&]<class X, class W>(X*, W*) {
    normalise<X, W><<<static_cast<unsigned>(p.rows), threads_for(p.size), 0, static_cast<cudaStream_t>(p.stream)>>>(
        static_cast<const X*>(p.x), static_cast<const W*>(p.update), static_cast<const W*>(p.weight),
        static_cast<X*>(p.sum), static_cast<W*>(p.out), static_cast<Compute<W>*>(p.scale), static_cast<int>(p.size),
        static_cast<Compute<W>>(p.eps));
  });
  check_cuda(cudaGetLastError(), "rms_norm");
}

void rms_norm_backward_cuda(const RmsNormBackwardRaw& p) {
  dispatch_norm(p.x_type, p.weight_type, [&]<class X, class W>(X*, W*) {
    const size_t shared = sizeof(Compute<W>) * p.size;
    if (shared > 40 * 1024) {
      check_cuda(cudaFuncSetAttribute(differentiate<X, W>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                      static_cast<int>(shared)),
                 "rms_norm_backward: shared memory for the gradient of the weight");
    }
    differentiate<X, W>
        <<<static_cast<unsigned>(p.parts), threads_for(p.size), shared, static_cast<cudaStream_t>(p.stream)>>>(p);
  });
  check_cuda(cudaGetLastError(), "rms_norm_backward");
}

}  // namespace plural::kernels
