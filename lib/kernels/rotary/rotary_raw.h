// SPDX-License-Identifier: Apache-2.0
// The raw form of rotary for its CUDA twin: pointers only, no torch header.
#pragma once

#include <cstdint>

#include "lib/kernels/types.h"

namespace plural::kernels {

struct RotaryRaw {
  const void* x = nullptr;    ///< in: [N, H, D], strides `token_stride`, `head_stride`, 1
  const void* cos = nullptr;  ///< in: [N, D / 2] contiguous
  const void* sin = nullptr;  ///< in: [N, D / 2] contiguous
  void* out = nullptr;        ///< out: [N, H, D] contiguous
  int64_t tokens = 0;         ///< N
  int64_t heads = 0;          ///< H
  int64_t half = 0;           ///< D / 2
  int64_t token_stride = 0;   ///< elements
  int64_t head_stride = 0;    ///< elements
  bool inverse = false;       ///< rotate back
  ElementType type = ElementType::kFloat32;
  void* stream = nullptr;  ///< cudaStream_t
};

void rotary_cuda(const RotaryRaw& params);  // in libplural_cuda.so

}  // namespace plural::kernels
