// SPDX-License-Identifier: Apache-2.0
// As much of CUDA as plural's kernels use, on the CPU: the blocks of a launch run one after the other, the threads of a
// block as contexts that take turns at barriers. For tests of what a kernel computes; it says nothing of races.
#pragma once

#include <csetjmp>
#include <ucontext.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <limits>
#include <vector>

#define __global__
#define __device__
#define __host__
#define __grid_constant__
#define __launch_bounds__(...)
#define __shared__ static  // one block at a time

using cudaError_t = int;
using cudaStream_t = void*;
constexpr cudaError_t cudaSuccess = 0;
constexpr int cudaFuncAttributeMaxDynamicSharedMemorySize = 8;
inline const char* cudaGetErrorString(cudaError_t) { return ""; }
inline cudaError_t cudaGetLastError() { return cudaSuccess; }
template <class Function>
cudaError_t cudaFuncSetAttribute(Function, int, int) {
  return cudaSuccess;
}

struct dim3 {
  unsigned x = 1, y = 1, z = 1;
  dim3(unsigned x = 1, unsigned y = 1) : x(x), y(y) {}
};
inline dim3 threadIdx, blockIdx, blockDim;

namespace cuda_on_host {

constexpr unsigned kWarp = 32;
constexpr size_t kStackBytes = 32 << 10;

/// A barrier that threads may leave for good.
struct Barrier {
  unsigned members = 0, waiting = 0;
  int64_t round = 0;
  void open_when_all_are_there() {
    if (members == 0 || waiting < members) return;
    waiting = 0;
    ++round;
  }
  void leave() {
    --members;
    open_when_all_are_there();
  }
};

struct Thread {
  ucontext_t start;  // where it begins
  jmp_buf place;     // where it waits; jumps, because a change of ucontext_t is a call of the system
  bool begun = false, done = false;
  std::vector<std::byte> stack = std::vector<std::byte>(kStackBytes);
};

/// The block that runs.
struct Block {
  std::vector<Thread> threads;
  std::vector<Barrier> warps;
  Barrier all;
  jmp_buf scheduler;
  const std::function<void()>* kernel = nullptr;
  std::vector<double> shared;   // what a launch asks for
  std::vector<uint64_t> lanes;  // what the threads show each other in a shuffle
};
inline Block block;

inline void take_turns() {
  if (_setjmp(block.threads[threadIdx.x].place) == 0) _longjmp(block.scheduler, 1);
}

inline void wait_at(Barrier& barrier) {
  const int64_t round = barrier.round;
  ++barrier.waiting;
  barrier.open_when_all_are_there();
  while (barrier.round == round) take_turns();
}

inline void run_thread() {
  (*block.kernel)();
  const unsigned me = threadIdx.x;
  block.threads[me].done = true;
  block.all.leave();
  block.warps[me / kWarp].leave();
  _longjmp(block.scheduler, 1);
}

/// Runs a thread until it waits or ends.
inline void resume(unsigned t) {
  threadIdx.x = t;
  if (_setjmp(block.scheduler) != 0) return;
  Thread& thread = block.threads[t];
  if (thread.begun) _longjmp(thread.place, 1);
  thread.begun = true;
  setcontext(&thread.start);
}

inline void launch(dim3 grid, unsigned threads, size_t shared_bytes, const std::function<void()>& kernel) {
  block.kernel = &kernel;
  block.threads.resize(threads);
  block.lanes.resize(threads);
  blockDim = dim3(threads);
  for (unsigned y = 0; y < grid.y; ++y) {
    for (unsigned x = 0; x < grid.x; ++x) {
      blockIdx = dim3(x, y);
      block.all = {threads};
      block.warps.assign((threads + kWarp - 1) / kWarp, Barrier{kWarp});
      // Nothing may be read before it is written.
      block.shared.assign(shared_bytes / sizeof(double) + 1, std::numeric_limits<double>::quiet_NaN());
      for (Thread& thread : block.threads) {
        thread.begun = thread.done = false;
        getcontext(&thread.start);
        thread.start.uc_stack.ss_sp = thread.stack.data();
        thread.start.uc_stack.ss_size = thread.stack.size();
        thread.start.uc_link = nullptr;
        makecontext(&thread.start, run_thread, 0);
      }
      for (unsigned left = threads; left > 0;) {
        for (unsigned t = 0; t < threads; ++t) {
          if (block.threads[t].done) continue;
          resume(t);
          if (block.threads[t].done) --left;
        }
      }
    }
  }
}

/// What the lane `from(lane)` of the caller's warp gives as x.
template <class T, class From>
T shuffle(T x, const From& from) {
  static_assert(sizeof(T) <= sizeof(uint64_t));
  const unsigned me = threadIdx.x, lane = me % kWarp;
  Barrier& warp = block.warps[me / kWarp];
  std::memcpy(&block.lanes[me], &x, sizeof(T));
  wait_at(warp);
  T result;
  std::memcpy(&result, &block.lanes[me - lane + from(lane)], sizeof(T));
  wait_at(warp);
  return result;
}

}  // namespace cuda_on_host

inline void __syncthreads() { cuda_on_host::wait_at(cuda_on_host::block.all); }
inline void __syncwarp() { cuda_on_host::wait_at(cuda_on_host::block.warps[threadIdx.x / cuda_on_host::kWarp]); }
template <class T>
T __shfl_xor_sync(unsigned, T x, int mask) {
  return cuda_on_host::shuffle(x, [&](unsigned lane) { return lane ^ static_cast<unsigned>(mask); });
}
template <class T>
T __shfl_up_sync(unsigned, T x, unsigned delta) {
  return cuda_on_host::shuffle(x, [&](unsigned lane) { return lane >= delta ? lane - delta : lane; });
}
template <class T>
T __shfl_sync(unsigned, T x, int from) {
  return cuda_on_host::shuffle(x, [&](unsigned) { return static_cast<unsigned>(from); });
}
inline unsigned __ballot_sync(unsigned mask, bool vote) {
  unsigned result = 0;
  for (unsigned lane = 0; lane < cuda_on_host::kWarp; ++lane)
    if (__shfl_sync(mask, vote, static_cast<int>(lane))) result |= 1u << lane;
  return result;
}
inline int __ffs(unsigned bits) { return bits == 0 ? 0 : std::countr_zero(bits) + 1; }
inline int __clz(unsigned bits) { return std::countl_zero(bits); }
inline unsigned __popc(unsigned bits) { return static_cast<unsigned>(std::popcount(bits)); }
inline unsigned __float_as_uint(float x) { return std::bit_cast<unsigned>(x); }
template <class T>
T atomicAdd(T* to, T value) {
  const T before = *to;
  *to += value;
  return before;
}
using std::ceil;
using std::isfinite;
using std::max;
using std::min;
