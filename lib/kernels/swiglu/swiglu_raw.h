// SPDX-License-Identifier: Apache-2.0
// The raw form of swiglu for its CUDA twin: pointers only, no torch header.
#pragma once

#include <cstdint>

#include "lib/kernels/types.h"

namespace plural::kernels {

struct SwigluRaw {
  const void* gate = nullptr;  ///< in: [N, F], rows `gate_stride` apart
  const void* up = nullptr;    ///< in: [N, F], rows `up_stride` apart
  void* out = nullptr;         ///< out: [N, F] contiguous
  const void* grad = nullptr;  ///< in, backward: [N, F] contiguous
  void* grad_gate = nullptr;   ///< out, backward: [N, F] contiguous
  void* grad_up = nullptr;     ///< out, backward: [N, F] contiguous
  int64_t rows = 0;            ///< N
  int64_t size = 0;            ///< F
  int64_t gate_stride = 0;     ///< elements
  int64_t up_stride = 0;       ///< elements
  ElementType type = ElementType::kFloat32;
  void* stream = nullptr;  ///< cudaStream_t
};

void swiglu_cuda(const SwigluRaw& params);           // in libplural_cuda.so
void swiglu_backward_cuda(const SwigluRaw& params);  // in libplural_cuda.so

}  // namespace plural::kernels
