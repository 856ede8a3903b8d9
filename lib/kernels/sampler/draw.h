// SPDX-License-Identifier: Apache-2.0
// The number that decides a token, shared by the twins of the sampler.
#pragma once

#include "lib/core/philox.h"

namespace plural::kernels {

/// Uniform in [0, 1) with 53 bits, from block `token` of the stream.
PLURAL_HOST_DEVICE inline double draw_uniform(const uint32_t key[2], const uint32_t step[2], uint32_t row,
                                              uint32_t token) {
  const uint32_t counter[4] = {token, row, step[0], step[1]};
  uint32_t block[4];
  philox_block(counter, key, block);
  const uint64_t bits = (uint64_t{block[0]} << 32) | block[1];
  return static_cast<double>(bits >> 11) * 0x1.0p-53;
}

}  // namespace plural::kernels
