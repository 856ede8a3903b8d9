// SPDX-License-Identifier: Apache-2.0
#include "plural/rng.h"

#include <cmath>
#include <numbers>

#include "lib/core/philox.h"

namespace plural {

std::array<uint32_t, 4> philox(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key) {
  uint32_t block[4];
  philox_block(counter.data(), key.data(), block);
  return {block[0], block[1], block[2], block[3]};
}

// Counter words: [draw index, row, step low, step high ^ purpose]; key = seed. Purposes are spread over the
// high bits, so that they meet no step below 2^32.
RandomStream::RandomStream(uint64_t seed, RandomPurpose purpose, uint64_t step, uint64_t row)
    : key_{static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)},
      counter_{0, static_cast<uint32_t>(row), static_cast<uint32_t>(step),
               static_cast<uint32_t>(step >> 32) ^ (static_cast<uint32_t>(purpose) << 16)} {}

uint32_t RandomStream::next_u32() {
  if (used_ == 4) {
    block_ = philox(counter_, key_);
    ++counter_[0];
    used_ = 0;
  }
  return block_[used_++];
}

uint64_t RandomStream::next_u64() {
  const uint64_t high = next_u32();
  return (high << 32) | next_u32();
}

double RandomStream::uniform() { return static_cast<double>(next_u64() >> 11) * 0x1.0p-53; }

uint64_t RandomStream::below(uint64_t n) {
  // Rejection keeps every value equally likely.
  const uint64_t limit = ~uint64_t{0} - (~uint64_t{0} % n + 1) % n;
  uint64_t x = next_u64();
  while (x > limit) x = next_u64();
  return x % n;
}

double RandomStream::normal() {
  double u = uniform();
  while (u == 0.0) u = uniform();
  return std::sqrt(-2.0 * std::log(u)) * std::cos(2.0 * std::numbers::pi * uniform());
}

}  // namespace plural
