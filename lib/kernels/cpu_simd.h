// SPDX-License-Identifier: Apache-2.0
// Plain loops that the compiler vectorises: one binary holds a copy per instruction set and the loader picks.
#pragma once

#include <bit>
#include <cstdint>

#include <c10/util/BFloat16.h>

// Function multiversioning needs ifunc support, which sanitizers do not survive.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__) && \
    !defined(__SANITIZE_THREAD__)
#define PLURAL_CPU_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define PLURAL_CPU_CLONES
#endif
#define PLURAL_ALWAYS_INLINE inline __attribute__((always_inline))

namespace plural::kernels {

/// Loads as the type to compute in: bfloat16 and float32 in float32, float64 in float64.
PLURAL_ALWAYS_INLINE float load(const c10::BFloat16& value) {
  return std::bit_cast<float>(static_cast<uint32_t>(value.x) << 16);
}
PLURAL_ALWAYS_INLINE float load(const float& value) { return value; }
PLURAL_ALWAYS_INLINE double load(const double& value) { return value; }

/// Stores with round to nearest even; NaN stays NaN.
PLURAL_ALWAYS_INLINE void store(c10::BFloat16& place, float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  place.x = static_cast<uint16_t>(value != value ? 0x7fc0u : rounded);
}
PLURAL_ALWAYS_INLINE void store(float& place, float value) { place = value; }
PLURAL_ALWAYS_INLINE void store(double& place, double value) { place = value; }

/// e^x in float32, relative error below 2e-7; 0 below -87.3, +inf above 88.7, NaN for NaN.
/// Branch-free, so that loops over it vectorise (std::exp does not).
PLURAL_ALWAYS_INLINE float exp_lane(float x) {
  constexpr float kLog2e = 1.44269504088896341f, kLn2High = 0.693359375f, kLn2Low = -2.12194440e-4f;
  const float clamped = x < -87.3f ? -87.3f : (x > 88.7f ? 88.7f : x);
  const float shifted = clamped * kLog2e + 12582912.0f;  // 1.5 * 2^23: rounds to the nearest integer
  const float n = shifted - 12582912.0f;
  const float r = (clamped - n * kLn2High) - n * kLn2Low;  // |r| <= ln(2) / 2
  // Taylor polynomial of degree 7 in Horner form: its error at ln(2)/2 is below 1e-8.
  float p = 1.0f / 5040.0f;
  p = p * r + 1.0f / 720.0f;
  p = p * r + 1.0f / 120.0f;
  p = p * r + 1.0f / 24.0f;
  p = p * r + 1.0f / 6.0f;
  p = p * r + 0.5f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  // Two factors, so that 2^n for n = 128 does not overflow before the product does.
  const int32_t half = static_cast<int32_t>(n) / 2, rest = static_cast<int32_t>(n) - half;
  const float result = p * std::bit_cast<float>((half + 127) << 23) * std::bit_cast<float>((rest + 127) << 23);
  return x < -87.3f ? 0.0f : (x > 88.7f ? __builtin_inff() : (x != x ? x : result));
}

}  // namespace plural::kernels
