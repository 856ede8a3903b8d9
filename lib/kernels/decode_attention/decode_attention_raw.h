// SPDX-License-Identifier: Apache-2.0
// The raw form of decode_attention, shared by its twins: pointers only, no torch header.
#pragma once

#include <cstdint>

#include "lib/kernels/types.h"

namespace plural::kernels {

/// One row with its prefix resolved.
struct DecodeAttentionRow {
  const void* prefix_keys = nullptr;    ///< in: [Hkv, S, D]; may be null when prefix_length is 0
  const void* prefix_values = nullptr;  ///< in: [Hkv, S, D]
  int32_t prefix_length = 0;            ///< S
  int32_t own_length = 0;               ///< T_r >= 1
  int32_t slot = 0;
};

struct DecodeAttentionParams {
  const void* query = nullptr;               ///< in: [R, H, D]
  const void* own_keys = nullptr;            ///< in: [max_rows, Hkv, capacity, D]
  const void* own_values = nullptr;          ///< in: [max_rows, Hkv, capacity, D]
  void* out = nullptr;                       ///< out: [R, H, D]
  const DecodeAttentionRow* rows = nullptr;  ///< in: R entries, host memory for both twins
  int64_t row_count = 0;                     ///< R
  int64_t heads = 0;                         ///< H
  int64_t kv_heads = 0;                      ///< Hkv
  int64_t head_size = 0;                     ///< D
  int64_t capacity = 0;
  int64_t window = 0;  ///< 0 = off
  double scale = 1.0;  ///< rounded to float32 except for float64
  ElementType type = ElementType::kFloat32;
  void* stream = nullptr;  ///< CUDA only: cudaStream_t
};

void decode_attention_cpu(const DecodeAttentionParams& params);
void decode_attention_cuda(const DecodeAttentionParams& params);  // in libplural_cuda.so

}  // namespace plural::kernels
