// SPDX-License-Identifier: Apache-2.0
// One unit of work is a tree and a key head with its query heads, so gradients of shared keys are added up by one
// thread in one order. Inside, blocks of queries meet whole segments of keys in small matrix products whose tiles stay
// in registers. Compiled once per instruction set by Highway.
#include "lib/kernels/segment_attention/segment_attention.h"

#ifndef HWY_DISABLED_TARGETS
#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_SSE4)  // rare by now; not worth their compile time
#endif
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "lib/kernels/segment_attention/segment_attention_cpu.cpp"
#include <hwy/foreach_target.h>
// foreach_target first, highway after it.
#include <ATen/Parallel.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <utility>
#include <vector>

#include "lib/kernels/cpu_simd.h"
#include "lib/kernels/softmax-inl.h"

HWY_BEFORE_NAMESPACE();
namespace plural::kernels::HWY_NAMESPACE {

/// Tokens of one block of queries; times the query heads of a key head, its rows.
constexpr int64_t kBlockTokens = 16;

template <class F>
using Lanes = hn::ScalableTag<F>;

/// Whole vectors of float32 or two of float64.
template <class F>
int64_t padded(int64_t count) {
  const int64_t lanes = hn::Lanes(Lanes<float>());
  return (count + lanes - 1) / lanes * lanes;
}

/// a(i, k) = data[i * row + k * column].
template <class F>
struct Strided {
  const F* data;
  int64_t row, column;
  Strided from_row(int64_t i) const { return {data + i * row, row, column}; }
};

/// c[i, j] (+)= sum_k a(i, k) b[k, j] for R rows and C vectors of columns.
template <int R, int C, class F>
HWY_INLINE void multiply_tile(Strided<F> a, const F* b, int64_t b_row, int64_t depth, F* c, int64_t c_row, bool add) {
  const Lanes<F> d;
  const int64_t lanes = hn::Lanes(d);
  hn::Vec<Lanes<F>> sum[R][C];
  for (int i = 0; i < R; ++i)
    for (int j = 0; j < C; ++j) sum[i][j] = add ? hn::LoadU(d, c + i * c_row + j * lanes) : hn::Zero(d);
  for (int64_t k = 0; k < depth; ++k) {
    hn::Vec<Lanes<F>> right[C];
    for (int j = 0; j < C; ++j) right[j] = hn::LoadU(d, b + k * b_row + j * lanes);
    for (int i = 0; i < R; ++i) {
      const auto left = hn::Set(d, a.data[i * a.row + k * a.column]);
      for (int j = 0; j < C; ++j) sum[i][j] = hn::MulAdd(left, right[j], sum[i][j]);
    }
  }
  for (int i = 0; i < R; ++i)
    for (int j = 0; j < C; ++j) hn::StoreU(sum[i][j], d, c + i * c_row + j * lanes);
}

template <int C, class F>
HWY_INLINE void multiply_columns(Strided<F> a, int64_t rows, const F* b, int64_t b_row, int64_t depth, F* c,
                                 int64_t c_row, bool add) {
  int64_t i = 0;
  for (; i + 6 <= rows; i += 6) multiply_tile<6, C>(a.from_row(i), b, b_row, depth, c + i * c_row, c_row, add);
  for (; i + 2 <= rows; i += 2) multiply_tile<2, C>(a.from_row(i), b, b_row, depth, c + i * c_row, c_row, add);
  if (i < rows) multiply_tile<1, C>(a.from_row(i), b, b_row, depth, c + i * c_row, c_row, add);
}

/// c [rows, columns] (+)= a [rows, depth] b [depth, columns]; columns are whole vectors.
template <class F>
void multiply(Strided<F> a, int64_t rows, const F* b, int64_t b_row, int64_t depth, int64_t columns, F* c,
              int64_t c_row, bool add) {
  const int64_t lanes = hn::Lanes(Lanes<F>());
  int64_t j = 0;
  for (; j + 4 * lanes <= columns; j += 4 * lanes) multiply_columns<4>(a, rows, b + j, b_row, depth, c + j, c_row, add);
  for (; j < columns; j += lanes) multiply_columns<1>(a, rows, b + j, b_row, depth, c + j, c_row, add);
}

HWY_INLINE void store_narrow(hn::Vec<Doubles> x, float* to) {
  hn::StoreU(hn::DemoteTo(HalfFloats(), x), HalfFloats(), to);
}
HWY_INLINE void store_narrow(hn::Vec<Doubles> x, double* to) { hn::StoreU(x, Doubles(), to); }

template <int R, class F>
HWY_INLINE void multiply_wide_tile(Strided<F> a, const F* b, int64_t b_row, int64_t depth, F* c, int64_t c_row) {
  const Doubles d;
  const int64_t lanes = hn::Lanes(d);
  hn::Vec<Doubles> low[R], high[R];
  for (int i = 0; i < R; ++i) low[i] = high[i] = hn::Zero(d);
  for (int64_t k = 0; k < depth; ++k) {
    const auto right = load_wide(b + k * b_row), next = load_wide(b + k * b_row + lanes);
    for (int i = 0; i < R; ++i) {
      const auto left = hn::Set(d, static_cast<double>(a.data[i * a.row + k * a.column]));
      low[i] = hn::MulAdd(left, right, low[i]);
      high[i] = hn::MulAdd(left, next, high[i]);
    }
  }
  for (int i = 0; i < R; ++i) {
    store_narrow(low[i], c + i * c_row);
    store_narrow(high[i], c + i * c_row + lanes);
  }
}

/// c [rows, columns] = a [rows, depth] b [depth, columns], summed in float64.
template <class F>
void multiply_wide(Strided<F> a, int64_t rows, const F* b, int64_t b_row, int64_t depth, int64_t columns, F* c,
                   int64_t c_row) {
  const int64_t step = 2 * hn::Lanes(Doubles());  // whole float32 vectors
  int64_t i = 0;
  const auto block = [&](auto count) {
    for (int64_t j = 0; j < columns; j += step)
      multiply_wide_tile<count()>(a.from_row(i), b + j, b_row, depth, c + i * c_row + j, c_row);
    i += count();
  };
  while (i + 6 <= rows) block(std::integral_constant<int, 6>());
  while (i < rows) block(std::integral_constant<int, 1>());
}

template <class F>
HWY_INLINE F dot(const F* a, const F* b, int64_t count) {
  const Lanes<F> d;
  auto sum = hn::Zero(d);
  for (int64_t j = 0; j < count; j += hn::Lanes(d)) sum = hn::MulAdd(hn::LoadU(d, a + j), hn::LoadU(d, b + j), sum);
  return hn::GetLane(hn::SumOfLanes(d, sum));
}

/// One tree and one key head: copies of its keys and values in the type of the sums, and what their gradients add up
/// to. T is the type in memory, F that of the sums.
template <class T, class F>
class Unit {
 public:
  Unit(const SegmentAttentionParams& p, const AttentionTree& tree, int64_t kv, bool backward)
      : p_(p), tree_(tree), kv_(kv), group_(p.heads / p.kv_heads), width_(padded<F>(p.head_size)) {
    places_.resize(p.layout->segments.size());
    int64_t size = 0;
    const auto take = [&](int64_t count) { return std::exchange(size, size + count); };
    for (const int64_t s : tree) {
      const int64_t length = segment(s).length, columns = padded<F>(length);
      Place& place = places_[s];
      place.columns = columns;
      place.key_t = take(width_ * columns);
      place.value = take(length * width_);
      if (!backward) continue;
      place.key = take(length * width_);
      place.value_t = take(width_ * columns);
      place.grad_key = take(length * width_);
      place.grad_value = take(length * width_);
    }
    memory_.assign(size, F(0));
    for (const int64_t s : tree) {
      const Place& place = places_[s];
      const int64_t begin = segment(s).begin;
      for (int64_t t = 0; t < segment(s).length; ++t) {
        const T *key = token(p.key, begin + t), *value = token(p.value, begin + t);
        for (int64_t x = 0; x < p.head_size; ++x) {
          at(place.key_t)[x * place.columns + t] = load(key[x]);
          at(place.value)[t * width_ + x] = load(value[x]);
          if (!backward) continue;
          at(place.key)[t * width_ + x] = load(key[x]);
          at(place.value_t)[x * place.columns + t] = load(value[x]);
        }
      }
    }
  }

  void forward() {
    for_blocks([&](const Block& block) {
      gather(block, p_.query, static_cast<F>(p_.scale), query_);
      score(block, true);
      for (int64_t r = 0; r < block.rows; ++r) log_sum(block, r) = normalise(block, r);
      mix(block, &Place::value, score_, mixed_);
      scatter(block, mixed_, p_.out);
    });
  }

  void backward() {
    const F scale = static_cast<F>(p_.scale);
    for_blocks([&](const Block& block) {
      gather(block, p_.query, scale, query_);
      gather(block, p_.out, F(1), mixed_);
      gather(block, p_.grad_out, F(1), upstream_);
      score(block, false);
      slope_.resize(block.rows * block.columns);
      for_keys(block, [&](const Place& place, int64_t column, int64_t length) {
        multiply<F>({upstream_.data(), width_, 1}, block.rows, at(place.value_t), place.columns, p_.head_size,
                    padded<F>(length), slope_.data() + column, block.columns, false);
      });
      for (int64_t r = 0; r < block.rows; ++r) differentiate(block, r);
      mix(block, &Place::key, slope_, mixed_);  // the gradient of the scaled query
      for (F& x : mixed_) x *= scale;
      scatter(block, mixed_, p_.grad_query);
      for_keys(block, [&](const Place& place, int64_t column, int64_t length) {
        multiply<F>({slope_.data() + column, 1, block.columns}, length, query_.data(), width_, block.rows, width_,
                    at(place.grad_key), width_, true);
        multiply<F>({score_.data() + column, 1, block.columns}, length, upstream_.data(), width_, block.rows, width_,
                    at(place.grad_value), width_, true);
      });
    });
    for (const int64_t s : tree_) {
      for (int64_t t = 0; t < segment(s).length; ++t) {
        const int64_t n = (segment(s).begin + t) * p_.kv_heads + kv_;
        for (int64_t x = 0; x < p_.head_size; ++x) {
          store(static_cast<T*>(p_.grad_key)[n * p_.head_size + x], at(places_[s].grad_key)[t * width_ + x]);
          store(static_cast<T*>(p_.grad_value)[n * p_.head_size + x], at(places_[s].grad_value)[t * width_ + x]);
        }
      }
    }
  }

 private:
  /// Where a segment's copies lie in memory_. The _t ones are [width, columns], the others [length, width].
  struct Place {
    int64_t columns = 0, key_t = 0, value = 0, key = 0, value_t = 0, grad_key = 0, grad_value = 0;
  };
  /// Tokens [first, first + tokens) of a segment; row = token * query heads + head. Its keys stand side by side:
  /// each segment of the chain, padded to whole vectors, then the segment itself up to the block's last token.
  struct Block {
    int64_t segment, first, tokens, rows;
    std::vector<int64_t> chain;  // root first, the segment itself last
    int64_t columns;
  };

  const AttentionSegment& segment(int64_t s) const { return p_.layout->segments[s]; }
  F* at(int64_t place) { return memory_.data() + place; }
  const T* token(const void* keys, int64_t n) const {
    return static_cast<const T*>(keys) + (n * p_.kv_heads + kv_) * p_.head_size;
  }
  /// Offset of a block's row in [N, H], times D in [N, H, D].
  int64_t row_place(const Block& block, int64_t r) const {
    return (segment(block.segment).begin + block.first + r / group_) * p_.heads + kv_ * group_ + r % group_;
  }
  F& log_sum(const Block& block, int64_t r) const { return static_cast<F*>(p_.log_sum)[row_place(block, r)]; }

  template <class Work>
  void for_blocks(const Work& work) {
    for (const int64_t s : tree_) {
      Block block{s, 0, 0, 0, {}, 0};
      for (int64_t link = s; link >= 0; link = segment(link).parent) block.chain.insert(block.chain.begin(), link);
      int64_t before = 0;
      for (const int64_t link : block.chain) before += link == s ? 0 : places_[link].columns;
      for (; block.first < segment(s).length; block.first += kBlockTokens) {
        block.tokens = std::min(kBlockTokens, segment(s).length - block.first);
        block.rows = block.tokens * group_;
        block.columns = before + padded<F>(block.first + block.tokens);
        work(block);
      }
    }
  }

  /// work(place, first column, keys) for each segment that the block sees.
  template <class Work>
  void for_keys(const Block& block, const Work& work) {
    int64_t column = 0;
    for (const int64_t s : block.chain) {
      const int64_t length = s == block.segment ? block.first + block.tokens : segment(s).length;
      work(places_[s], column, length);
      column += padded<F>(length);
    }
  }

  void gather(const Block& block, const void* from, F factor, std::vector<F>& to) {
    to.assign(block.rows * width_, F(0));
    for (int64_t r = 0; r < block.rows; ++r) {
      const T* row = static_cast<const T*>(from) + row_place(block, r) * p_.head_size;
      for (int64_t x = 0; x < p_.head_size; ++x) to[r * width_ + x] = load(row[x]) * factor;
    }
  }
  void scatter(const Block& block, const std::vector<F>& from, void* to) {
    for (int64_t r = 0; r < block.rows; ++r) {
      T* row = static_cast<T*>(to) + row_place(block, r) * p_.head_size;
      for (int64_t x = 0; x < p_.head_size; ++x) store(row[x], from[r * width_ + x]);
    }
  }

  /// score_ [rows, columns] = scaled query . key; padding and unseen keys hold anything. Only the forward pass must
  /// match decode_attention to the last bit; float32 sums do for the gradient and take half the time.
  void score(const Block& block, bool exactly) {
    score_.resize(block.rows * block.columns);
    for_keys(block, [&](const Place& place, int64_t column, int64_t length) {
      const Strided<F> query{query_.data(), width_, 1};
      F* to = score_.data() + column;
      if (exactly)
        multiply_wide(query, block.rows, at(place.key_t), place.columns, p_.head_size, padded<F>(length), to,
                      block.columns);
      else
        multiply<F>(query, block.rows, at(place.key_t), place.columns, p_.head_size, padded<F>(length), to,
                    block.columns, false);
    });
  }

  /// to [rows, width] = weights [rows, columns] x the keys' or values' rows.
  void mix(const Block& block, int64_t Place::*rows, const std::vector<F>& weights, std::vector<F>& to) {
    to.assign(block.rows * width_, F(0));
    for_keys(block, [&](const Place& place, int64_t column, int64_t length) {
      multiply<F>({weights.data() + column, block.columns, 1}, block.rows, at(place.*rows), width_, length, width_,
                  to.data(), width_, true);
    });
  }

  /// Calls seen(begin, end) for the runs of columns that row r sees, in order, and blank(begin, end) for the others.
  template <class Seen, class Blank>
  void for_runs(const Block& block, int64_t r, const Seen& seen, const Blank& blank) {
    const int64_t own = block.first + r / group_;                  // place in its segment
    const int64_t position = segment(block.segment).prefix + own;  // place in its sequence
    const int64_t first = p_.window > 0 ? std::max<int64_t>(0, position - p_.window + 1) : 0;
    int64_t column = 0, before = 0;
    for (const int64_t s : block.chain) {
      const bool is_own = s == block.segment;
      const int64_t length = is_own ? own + 1 : segment(s).length;
      const int64_t columns = is_own ? block.columns - column : places_[s].columns;
      const int64_t begin = std::clamp<int64_t>(first - before, 0, length);
      blank(column, column + begin);
      if (begin < length) seen(column + begin, column + length);
      blank(column + length, column + columns);
      column += columns;
      before += length;
    }
  }

  /// Scores -> weights that sum to 1 (0 where unseen); returns ln of their sum before.
  F normalise(const Block& block, int64_t r) {
    F* row = score_.data() + r * block.columns;
    F top = -std::numeric_limits<F>::infinity();
    const auto blank = [&](int64_t begin, int64_t end) { std::fill(row + begin, row + end, F(0)); };
    for_runs(
        block, r,
        [&](int64_t begin, int64_t end) {
          for (int64_t j = begin; j < end; ++j) top = std::max(top, row[j]);
        },
        blank);
    double sum = 0;
    for_runs(
        block, r, [&](int64_t begin, int64_t end) { sum += exponentials(row + begin, end - begin, top); },
        [](int64_t, int64_t) {});
    const auto inverse = static_cast<F>(1 / sum);
    for (int64_t j = 0; j < block.columns; ++j) row[j] *= inverse;
    return static_cast<F>(top + std::log(sum));
  }

  /// Scores -> weights as in the forward pass, and slope_ -> the gradient of the scores.
  void differentiate(const Block& block, int64_t r) {
    F *weight = score_.data() + r * block.columns, *slope = slope_.data() + r * block.columns;
    const F delta = dot(upstream_.data() + r * width_, mixed_.data() + r * width_, width_);
    const F sum = log_sum(block, r);
    for_runs(
        block, r, [&](int64_t begin, int64_t end) { exponentials(weight + begin, end - begin, sum); },
        [&](int64_t begin, int64_t end) { std::fill(weight + begin, weight + end, F(0)); });
    // Padding of slope_ is finite (zeros of the padded values), and its weight is 0.
    for (int64_t j = 0; j < block.columns; ++j) slope[j] = weight[j] * (slope[j] - delta);
  }

  const SegmentAttentionParams& p_;
  const AttentionTree& tree_;
  int64_t kv_, group_, width_;
  std::vector<Place> places_;  // by segment
  std::vector<F> memory_;
  std::vector<F> query_, mixed_, upstream_, score_, slope_;
};

template <class T, class F>
void run_unit(const SegmentAttentionParams& p, int64_t unit, bool backward) {
  Unit<T, F> work(p, p.layout->trees[unit / p.kv_heads], unit % p.kv_heads, backward);
  backward ? work.backward() : work.forward();
}

void run_bfloat16(const SegmentAttentionParams& p, int64_t unit, bool backward) {
  run_unit<c10::BFloat16, float>(p, unit, backward);
}
void run_float32(const SegmentAttentionParams& p, int64_t unit, bool backward) {
  run_unit<float, float>(p, unit, backward);
}
void run_float64(const SegmentAttentionParams& p, int64_t unit, bool backward) {
  run_unit<double, double>(p, unit, backward);
}

}  // namespace plural::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace plural::kernels {
namespace {

HWY_EXPORT(run_bfloat16);
HWY_EXPORT(run_float32);
HWY_EXPORT(run_float64);

void run(const SegmentAttentionParams& params, bool backward) {
  const auto work = params.type == ElementType::kFloat64   ? HWY_DYNAMIC_DISPATCH(run_float64)
                    : params.type == ElementType::kFloat32 ? HWY_DYNAMIC_DISPATCH(run_float32)
                                                           : HWY_DYNAMIC_DISPATCH(run_bfloat16);
  const auto units = static_cast<int64_t>(params.layout->trees.size()) * params.kv_heads;
  // Trees differ in size: each thread takes the next unit when it is done with one.
  std::atomic<int64_t> next{0};
  at::parallel_for(0, std::min<int64_t>(units, at::get_num_threads()), 1, [&](int64_t begin, int64_t end) {
    for (; begin < end; ++begin)
      for (int64_t unit = next++; unit < units; unit = next++) work(params, unit, backward);
  });
}

}  // namespace

void segment_attention_cpu(const SegmentAttentionParams& params) { run(params, false); }
void segment_attention_backward_cpu(const SegmentAttentionParams& params) { run(params, true); }

}  // namespace plural::kernels
#endif  // HWY_ONCE
