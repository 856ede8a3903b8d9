// SPDX-License-Identifier: Apache-2.0
// The raw form of cache_append for its CUDA twin: pointers only, no torch header.
#pragma once

#include <cstdint>

#include "lib/kernels/types.h"

namespace plural::kernels {

struct CacheAppendRaw {
  const void* keys = nullptr;       ///< in: [R, Hkv, D], rows `key_stride` apart
  const void* values = nullptr;     ///< in: [R, Hkv, D], rows `value_stride` apart
  void* row_keys = nullptr;         ///< out: [max_rows, Hkv, capacity, D]
  void* row_values = nullptr;       ///< out: [max_rows, Hkv, capacity, D]
  const int64_t* slots = nullptr;   ///< in: [R], device memory
  const int64_t* places = nullptr;  ///< in: [R], device memory
  int64_t rows = 0;                 ///< R
  int64_t kv_heads = 0;             ///< Hkv
  int64_t size = 0;                 ///< D
  int64_t capacity = 0;
  int64_t key_stride = 0, value_stride = 0;  ///< elements
  ElementType type = ElementType::kFloat32;
  void* stream = nullptr;  ///< cudaStream_t
};

void cache_append_cuda(const CacheAppendRaw& params);  // in libplural_cuda.so

}  // namespace plural::kernels
