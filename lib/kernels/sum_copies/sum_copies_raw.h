// SPDX-License-Identifier: Apache-2.0
// The raw form of sum_copies for its CUDA twin: pointers only, no torch header.
#pragma once

#include <cstdint>

#include "lib/kernels/types.h"

namespace plural::kernels {

struct SumCopiesRaw {
  const void* copies = nullptr;    ///< in: [P, C] contiguous
  const int64_t* begin = nullptr;  ///< in: [N + 1]
  const int64_t* place = nullptr;  ///< in: [P]
  void* out = nullptr;             ///< out: [N, C] contiguous
  int64_t rows = 0;                ///< N
  int64_t size = 0;                ///< C
  ElementType type = ElementType::kFloat32;
  void* stream = nullptr;  ///< cudaStream_t
};

void sum_copies_cuda(const SumCopiesRaw& params);  // in libplural_cuda.so

}  // namespace plural::kernels
