// SPDX-License-Identifier: Apache-2.0
// Writes one token's keys and values of every running row into the KV cache.
#pragma once

#include "plural/tensor.h"

namespace plural::kernels {

/// row_keys[slots[r], h, places[r], :] = keys[r, h, :], and the same for values. keys, values [R, Hkv, D] (rows may be
/// strided); row_keys, row_values [max_rows, Hkv, capacity, D] contiguous; slots, places [R] int64 on the same device,
/// whose values the caller has checked. No two rows have one place. Without gradient.
void cache_append_(Tensor& row_keys, Tensor& row_values, const Tensor& slots, const Tensor& places, const Tensor& keys,
                   const Tensor& values);

}  // namespace plural::kernels
