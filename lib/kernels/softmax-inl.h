// SPDX-License-Identifier: Apache-2.0
// The arithmetic that decode_attention and segment_attention share, so that a token's attention comes out the same to
// the last bit whether it is sampled or trained on: dot products and sums of weights in float64, where the order of
// adding does not show after rounding, and one exponential whatever the place in a vector.
// Included once per instruction set, after <hwy/foreach_target.h>.
#if defined(PLURAL_SOFTMAX_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef PLURAL_SOFTMAX_INL_H
#undef PLURAL_SOFTMAX_INL_H
#else
#define PLURAL_SOFTMAX_INL_H
#endif

#include <hwy/contrib/math/math-inl.h>
#include <hwy/highway.h>

#include <algorithm>
#include <cstdint>

HWY_BEFORE_NAMESPACE();
namespace plural::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

/// Lanes of float64, and as many of float32.
using Doubles = hn::ScalableTag<double>;
using HalfFloats = hn::Rebind<float, Doubles>;

HWY_INLINE hn::Vec<Doubles> load_wide(const float* from) {
  return hn::PromoteTo(Doubles(), hn::LoadU(HalfFloats(), from));
}
HWY_INLINE hn::Vec<Doubles> load_wide(const double* from) { return hn::LoadU(Doubles(), from); }

/// row <- exp(row - top); returns the sum. The same for an element wherever it stands.
template <class F>
HWY_INLINE double exponentials(F* row, int64_t count, F top) {
  const hn::ScalableTag<F> d;
  const int64_t lanes = hn::Lanes(d), wide_lanes = hn::Lanes(Doubles());
  const auto shift = hn::Set(d, top);
  auto sums = hn::Zero(Doubles());
  double sum = 0;
  int64_t j = 0;
  for (; j + lanes <= count; j += lanes) {
    hn::StoreU(hn::Exp(d, hn::Sub(hn::LoadU(d, row + j), shift)), d, row + j);
    for (int64_t i = 0; i < lanes; i += wide_lanes) sums = hn::Add(sums, load_wide(row + j + i));
  }
  if (j < count) {
    HWY_ALIGN F rest[hn::MaxLanes(d)] = {};
    std::copy(row + j, row + count, rest);
    hn::Store(hn::Exp(d, hn::Sub(hn::Load(d, rest), shift)), d, rest);
    for (int64_t i = 0; j < count; ++i, ++j) sum += row[j] = rest[i];
  }
  return sum + hn::GetLane(hn::SumOfLanes(Doubles(), sums));
}

}  // namespace plural::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
