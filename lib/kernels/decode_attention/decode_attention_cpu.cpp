// SPDX-License-Identifier: Apache-2.0
// The definition of decode_attention. Float32 and bfloat16 are vectorised with Highway and compiled once per
// instruction set; rows that share a prefix are done together, so that its keys and values come from cache.
#include "lib/kernels/decode_attention/decode_attention.h"

#ifndef HWY_DISABLED_TARGETS
#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_SSE4)  // rare by now; not worth their compile time
#endif
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "lib/kernels/decode_attention/decode_attention_cpu.cpp"
#include <hwy/foreach_target.h>
// foreach_target first, highway after it.
#include <ATen/Parallel.h>

#include "lib/kernels/softmax-inl.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#ifndef PLURAL_DECODE_ATTENTION_COMMON
#define PLURAL_DECODE_ATTENTION_COMMON
namespace plural::kernels {
namespace {

struct BFloat16 {
  uint16_t bits;
};

inline float to_float(float x) { return x; }
inline float to_float(BFloat16 x) {
  const uint32_t bits = uint32_t{x.bits} << 16;
  float y;
  std::memcpy(&y, &bits, sizeof(y));
  return y;
}

inline void store(float x, float* to) { *to = x; }
inline void store(float x, BFloat16* to) {  // to nearest, ties to even; NaN stays NaN
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof(bits));
  to->bits = std::isnan(x) ? 0x7FC0 : static_cast<uint16_t>((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16);
}

/// Neighbouring rows [begin, end) with one prefix: a unit of work together with a key head.
struct RowRange {
  int64_t begin, end;
};

// More rows a unit read the prefix fewer times from memory; fewer rows a unit share the work out better.
constexpr int64_t kRowsPerUnit = 8;

std::vector<RowRange> cut_rows(const DecodeAttentionParams& p) {
  std::vector<RowRange> ranges;
  for (int64_t r = 0; r < p.row_count;) {
    int64_t end = r + 1;
    while (end < p.row_count && end - r < kRowsPerUnit && p.rows[end].prefix_keys == p.rows[r].prefix_keys &&
           p.rows[end].prefix_length == p.rows[r].prefix_length) {
      ++end;
    }
    ranges.push_back({r, end});
    r = end;
  }
  return ranges;
}

/// First position (prefix and own tokens counted together) that a row sees.
inline int64_t first_visible(const DecodeAttentionParams& p, const DecodeAttentionRow& row) {
  return p.window > 0 ? std::max<int64_t>(0, row.prefix_length + row.own_length - p.window) : 0;
}

// float64: plain loops, the same definition without blocking.
void attend_double(const DecodeAttentionParams& p, int64_t r, int64_t head) {
  const DecodeAttentionRow& row = p.rows[r];
  const int64_t kv = head / (p.heads / p.kv_heads), size = p.head_size;
  const int64_t prefix = row.prefix_length, total = prefix + row.own_length, first = first_visible(p, row);
  const int64_t own = (row.slot * p.kv_heads + kv) * p.capacity * size;
  const auto at = [&](const void* shared, const void* mine, int64_t j) {
    return j < prefix ? static_cast<const double*>(shared) + (kv * prefix + j) * size
                      : static_cast<const double*>(mine) + own + (j - prefix) * size;
  };
  const double* q = static_cast<const double*>(p.query) + (r * p.heads + head) * size;
  double* out = static_cast<double*>(p.out) + (r * p.heads + head) * size;
  std::vector<double> weight(total);
  double top = -INFINITY, sum = 0;
  for (int64_t j = first; j < total; ++j) {
    const double* k = at(row.prefix_keys, p.own_keys, j);
    double dot = 0;
    for (int64_t d = 0; d < size; ++d) dot += q[d] * k[d];
    weight[j] = dot * p.scale;
    top = std::max(top, weight[j]);
  }
  for (int64_t j = first; j < total; ++j) sum += weight[j] = std::exp(weight[j] - top);
  std::fill_n(out, size, 0.0);
  for (int64_t j = first; j < total; ++j) {
    const double* v = at(row.prefix_values, p.own_values, j);
    for (int64_t d = 0; d < size; ++d) out[d] += weight[j] / sum * v[d];
  }
}

}  // namespace
}  // namespace plural::kernels
#endif  // PLURAL_DECODE_ATTENTION_COMMON

HWY_BEFORE_NAMESPACE();
namespace plural::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using Floats = hn::ScalableTag<float>;
using FloatVector = hn::Vec<Floats>;

HWY_INLINE FloatVector load(Floats d, const float* from) { return hn::LoadU(d, from); }
HWY_INLINE FloatVector load(Floats d, const BFloat16* from) {
  const hn::Rebind<uint16_t, Floats> half;
  const hn::RebindToUnsigned<Floats> whole;
  const auto bits = hn::LoadU(half, reinterpret_cast<const uint16_t*>(from));
  return hn::BitCast(d, hn::ShiftLeft<16>(hn::PromoteTo(whole, bits)));
}

HWY_INLINE hn::Vec<Doubles> load_wide(const BFloat16* from) {
  const hn::Rebind<uint16_t, HalfFloats> half;
  const hn::RebindToUnsigned<HalfFloats> whole;
  const auto bits = hn::LoadU(half, reinterpret_cast<const uint16_t*>(from));
  return hn::PromoteTo(Doubles(), hn::BitCast(HalfFloats(), hn::ShiftLeft<16>(hn::PromoteTo(whole, bits))));
}

/// score[i * score_stride + j] = q_i . k_j for Q queries and n keys of `size` elements, summed in float64.
template <int Q, class T>
HWY_INLINE void dot_keys(const double* q, const T* keys, int64_t n, int64_t size, float* score, int64_t score_stride) {
  const Doubles d;
  const int64_t lanes = hn::Lanes(d), whole = size - size % lanes;
  for (int64_t j = 0; j < n; ++j) {
    const T* key = keys + j * size;
    hn::Vec<Doubles> sum[Q];
    for (int i = 0; i < Q; ++i) sum[i] = hn::Zero(d);
    for (int64_t x = 0; x < whole; x += lanes) {
      const auto k = load_wide(key + x);
      for (int i = 0; i < Q; ++i) sum[i] = hn::MulAdd(hn::LoadU(d, q + i * size + x), k, sum[i]);
    }
    for (int i = 0; i < Q; ++i) {
      double dot = hn::GetLane(hn::SumOfLanes(d, sum[i]));
      for (int64_t x = whole; x < size; ++x) dot += q[i * size + x] * static_cast<double>(to_float(key[x]));
      score[i * score_stride + j] = static_cast<float>(dot);
    }
  }
}

/// out_i += sum_j weight[i * weight_stride + j] * v_j for Q queries, elements [x, x + C vectors).
template <int Q, int C, class T>
HWY_INLINE void add_values(const float* weight, int64_t weight_stride, const T* values, int64_t n, int64_t size,
                           float* out) {
  const Floats d;
  const int64_t lanes = hn::Lanes(d);
  FloatVector sum[Q][C];
  for (int i = 0; i < Q; ++i) {
    for (int c = 0; c < C; ++c) sum[i][c] = hn::LoadU(d, out + i * size + c * lanes);
  }
  for (int64_t j = 0; j < n; ++j) {
    FloatVector v[C];
    for (int c = 0; c < C; ++c) v[c] = load(d, values + j * size + c * lanes);
    for (int i = 0; i < Q; ++i) {
      const FloatVector w = hn::Set(d, weight[i * weight_stride + j]);
      for (int c = 0; c < C; ++c) sum[i][c] = hn::MulAdd(w, v[c], sum[i][c]);
    }
  }
  for (int i = 0; i < Q; ++i) {
    for (int c = 0; c < C; ++c) hn::StoreU(sum[i][c], d, out + i * size + c * lanes);
  }
}

template <int Q, class T>
HWY_INLINE void mix_values(const float* weight, int64_t weight_stride, const T* values, int64_t n, int64_t size,
                           float* out) {
  const int64_t lanes = hn::Lanes(Floats());
  int64_t x = 0;
  for (; x + 4 * lanes <= size; x += 4 * lanes) {
    add_values<Q, 4>(weight, weight_stride, values + x, n, size, out + x);
  }
  for (; x + lanes <= size; x += lanes) add_values<Q, 1>(weight, weight_stride, values + x, n, size, out + x);
  for (; x < size; ++x) {
    for (int i = 0; i < Q; ++i) {
      for (int64_t j = 0; j < n; ++j)
        out[i * size + x] += weight[i * weight_stride + j] * to_float(values[j * size + x]);
    }
  }
}

/// Calls f.template operator()<Q>(i) over n queries in blocks of 4, then 3, 2 or 1.
template <class F>
HWY_INLINE void for_blocks(int64_t n, const F& f) {
  int64_t i = 0;
  for (; i + 4 <= n; i += 4) f(std::integral_constant<int, 4>(), i);
  if (n - i == 3) f(std::integral_constant<int, 3>(), i);
  if (n - i == 2) f(std::integral_constant<int, 2>(), i);
  if (n - i == 1) f(std::integral_constant<int, 1>(), i);
}

/// Turns score[first, total) into weights that sum to 1; places before `first` become 0.
HWY_INLINE void softmax(float* score, int64_t first, int64_t total) {
  std::fill_n(score, first, 0.0F);
  const float top = *std::max_element(score + first, score + total);
  const auto inverse = static_cast<float>(1 / exponentials(score + first, total - first, top));
  for (int64_t j = first; j < total; ++j) score[j] *= inverse;
}

/// One unit of work: the query heads of key head `kv` for a range of rows with one prefix.
template <class T>
void attend(const DecodeAttentionParams& p, RowRange range, int64_t kv) {
  const int64_t size = p.head_size, heads = p.heads / p.kv_heads, rows = range.end - range.begin;
  const int64_t queries = rows * heads, prefix = p.rows[range.begin].prefix_length;
  int64_t longest = 0, begin = prefix;
  for (int64_t r = range.begin; r < range.end; ++r) {
    longest = std::max<int64_t>(longest, p.rows[r].own_length);
    begin = std::min(begin, first_visible(p, p.rows[r]));
  }
  const int64_t stride = prefix + longest;
  const auto scale = static_cast<float>(p.scale);
  // Kept between calls: an allocation a unit costs as much as its work.
  thread_local std::vector<float> scratch;
  thread_local std::vector<double> wide_scratch;
  scratch.resize(queries * (size + stride));
  wide_scratch.resize(queries * size);
  double* q = wide_scratch.data();        // [queries, D], scaled in float32
  float* mixed = scratch.data();          // [queries, D]
  float* score = mixed + queries * size;  // [queries, stride]

  for (int64_t r = 0; r < rows; ++r) {
    const T* from = static_cast<const T*>(p.query) + ((range.begin + r) * p.heads + kv * heads) * size;
    for (int64_t x = 0; x < heads * size; ++x) q[r * heads * size + x] = to_float(from[x]) * scale;
  }
  std::fill_n(mixed, queries * size, 0.0F);

  const auto* prefix_keys = static_cast<const T*>(p.rows[range.begin].prefix_keys) + kv * prefix * size;
  const auto* prefix_values = static_cast<const T*>(p.rows[range.begin].prefix_values) + kv * prefix * size;
  for_blocks(queries, [&](auto block, int64_t i) {
    dot_keys<block()>(q + i * size, prefix_keys + begin * size, prefix - begin, size, score + i * stride + begin,
                      stride);
  });
  for (int64_t r = 0; r < rows; ++r) {
    const DecodeAttentionRow& row = p.rows[range.begin + r];
    const int64_t own = (row.slot * p.kv_heads + kv) * p.capacity * size;
    const int64_t first = first_visible(p, row), own_first = std::max<int64_t>(0, first - prefix);
    for_blocks(heads, [&](auto block, int64_t h) {
      const int64_t i = r * heads + h;
      dot_keys<block()>(q + i * size, static_cast<const T*>(p.own_keys) + own + own_first * size,
                        row.own_length - own_first, size, score + i * stride + prefix + own_first, stride);
    });
    for (int64_t h = 0; h < heads; ++h) softmax(score + (r * heads + h) * stride, first, prefix + row.own_length);
  }
  for_blocks(queries, [&](auto block, int64_t i) {
    mix_values<block()>(score + i * stride + begin, stride, prefix_values + begin * size, prefix - begin, size,
                        mixed + i * size);
  });
  for (int64_t r = 0; r < rows; ++r) {
    const DecodeAttentionRow& row = p.rows[range.begin + r];
    const int64_t own = (row.slot * p.kv_heads + kv) * p.capacity * size;
    const int64_t own_first = std::max<int64_t>(0, first_visible(p, row) - prefix);
    for_blocks(heads, [&](auto block, int64_t h) {
      const int64_t i = r * heads + h;
      mix_values<block()>(score + i * stride + prefix + own_first, stride,
                          static_cast<const T*>(p.own_values) + own + own_first * size, row.own_length - own_first,
                          size, mixed + i * size);
    });
    T* to = static_cast<T*>(p.out) + ((range.begin + r) * p.heads + kv * heads) * size;
    for (int64_t x = 0; x < heads * size; ++x) store(mixed[r * heads * size + x], to + x);
  }
}

void attend_floats(const DecodeAttentionParams& p, RowRange range, int64_t kv) { attend<float>(p, range, kv); }
void attend_bfloats(const DecodeAttentionParams& p, RowRange range, int64_t kv) { attend<BFloat16>(p, range, kv); }

}  // namespace plural::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace plural::kernels {

HWY_EXPORT(attend_floats);
HWY_EXPORT(attend_bfloats);

void decode_attention_cpu(const DecodeAttentionParams& params) {
  if (params.type == ElementType::kFloat64) {
    at::parallel_for(0, params.row_count * params.heads, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) attend_double(params, i / params.heads, i % params.heads);
    });
    return;
  }
  const std::vector<RowRange> ranges = cut_rows(params);
  const auto attend = params.type == ElementType::kFloat32 ? HWY_DYNAMIC_DISPATCH(attend_floats)
                                                           : HWY_DYNAMIC_DISPATCH(attend_bfloats);
  const auto units = static_cast<int64_t>(ranges.size()) * params.kv_heads;
  at::parallel_for(0, units, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) attend(params, ranges[i / params.kv_heads], i % params.kv_heads);
  });
}

}  // namespace plural::kernels
#endif  // HWY_ONCE
