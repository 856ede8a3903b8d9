// SPDX-License-Identifier: Apache-2.0
// Attention of one new query a row over a KV cache whose prompt part is shared by the rows of a group.
// Twins: decode_attention_cpu.cpp (the definition) and decode_attention_cuda.cu.
#pragma once

#include <cstdint>
#include <span>

#include "lib/kernels/decode_attention/decode_attention_raw.h"
#include "plural/tensor.h"

namespace plural::kernels {

/// Where the keys of one row are. Rows that are neighbours and have the same prefix are computed together.
struct DecodeRow {
  int64_t slot = 0;        ///< row of own_keys and own_values
  int64_t own_length = 0;  ///< T_r: tokens in the slot, the new one included (its key is written already)
  int64_t prefix = 0;      ///< index into prefix_keys and prefix_values
};

/// Inputs of decode_attention. H is a multiple of Hkv: query head h reads head h / (H / Hkv).
struct DecodeAttentionInput {
  Tensor query;                           ///< [R, H, D] contiguous; float32, bfloat16 or float64
  Tensor own_keys;                        ///< [max_rows, Hkv, capacity, D] contiguous, the query's dtype and device
  Tensor own_values;                      ///< like own_keys
  std::span<const Tensor> prefix_keys;    ///< each [Hkv, S, D] contiguous; S may be 0 and differ
  std::span<const Tensor> prefix_values;  ///< like prefix_keys, one for one
  std::span<const DecodeRow> rows;        ///< R, on the host
  double scale = 1.0;                     ///< multiplies query . key, usually 1 / sqrt(D)
  int64_t window = 0;                     ///< each row sees its last `window` tokens, its own included; 0 = all
};

/// softmax(scale * q k^T) v over the row's prefix followed by its own tokens: [R, H, D] in the query's dtype;
/// sums are in float32 (float64 for float64). The result of a row does not depend on the other rows, bit for
/// bit. No gradient. Broken shapes throw CheckError.
Tensor decode_attention(const DecodeAttentionInput& input);

}  // namespace plural::kernels
