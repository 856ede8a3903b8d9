// SPDX-License-Identifier: Apache-2.0
// Counter-based random streams (Philox 4x32-10, Salmon et al. 2011). A stream is keyed by
// (seed, purpose, step, row), so results depend neither on threads nor on the order of rows.
#pragma once

#include <array>
#include <cstdint>

namespace plural {

/// Who draws: two purposes with equal (seed, step, row) never share numbers.
enum class RandomPurpose : uint32_t {
  kSampling = 1,
  kDataOrder = 2,
  kTargets = 3,
  kInit = 4,
  kBootstrap = 5,
  kNumAnswers = 6,
  kCurriculum = 7,
  kUser = 100
};

/// One Philox 4x32-10 block: four 32-bit numbers from a 128-bit counter and a 64-bit key.
std::array<uint32_t, 4> philox(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key);

/// A reproducible stream of numbers; cheap to make, copyable (a copy repeats the same numbers).
class RandomStream {
 public:
  /// `step` and `row` are any non-negative numbers; `row` uses 32 bits.
  RandomStream(uint64_t seed, RandomPurpose purpose, uint64_t step = 0, uint64_t row = 0);

  uint32_t next_u32();
  uint64_t next_u64();
  /// Uniform in [0, 1) with 53 bits.
  double uniform();
  /// Uniform integer in [0, n), unbiased; n > 0.
  uint64_t below(uint64_t n);
  /// Standard normal (Box-Muller).
  double normal();

 private:
  std::array<uint32_t, 2> key_;
  std::array<uint32_t, 4> counter_;
  std::array<uint32_t, 4> block_{};
  int used_ = 4;
};

/// Fisher-Yates with `stream`; the same stream gives the same order for the same size.
template <class Container>
void shuffle(Container& items, RandomStream& stream) {
  for (uint64_t i = items.size(); i > 1; --i) {
    const uint64_t j = stream.below(i);
    using std::swap;
    swap(items[i - 1], items[j]);
  }
}

}  // namespace plural
