// SPDX-License-Identifier: Apache-2.0
// The definition of sample(). The vocabulary is never sorted: without filters a row takes one pass for the maximum
// and one for the sums; top-k and top-p sort only the tokens of the one histogram bucket where their edge falls.
#include "lib/kernels/sampler/sampler.h"

#ifndef HWY_DISABLED_TARGETS
#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_SSE4)  // rare by now; not worth their compile time
#endif
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "lib/kernels/sampler/sampler_cpu.cpp"
#include <hwy/foreach_target.h>
// foreach_target first, highway after it.
#include <hwy/contrib/math/math-inl.h>
#include <hwy/highway.h>

#include <ATen/Parallel.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <utility>
#include <vector>

#include "lib/kernels/sampler/draw.h"

#ifndef PLURAL_SAMPLER_COMMON
#define PLURAL_SAMPLER_COMMON
namespace plural::kernels {
namespace {

// Sums are float within a block and double over blocks: exact enough, and the search for the drawn token looks at
// one block only.
constexpr int64_t kBlock = 1024;

constexpr float kNoLogit = -std::numeric_limits<float>::infinity();

}  // namespace
}  // namespace plural::kernels
#endif  // PLURAL_SAMPLER_COMMON

HWY_BEFORE_NAMESPACE();
namespace plural::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

/// The largest of n numbers (NaN is passed over); -inf for none.
float largest(const float* x, int64_t n) {
  const hn::ScalableTag<float> d;
  const int64_t lanes = hn::Lanes(d);
  auto top = hn::Set(d, kNoLogit);
  float rest = kNoLogit;
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    const auto v = hn::LoadU(d, x + i);
    top = hn::IfThenElse(hn::Gt(v, top), v, top);
  }
  for (; i < n; ++i) rest = x[i] > rest ? x[i] : rest;
  return std::max(rest, hn::GetLane(hn::MaxOfLanes(d, top)));
}

/// weight[i] = exp((x[i] - top) * inverse_temperature) for n numbers, unless `weight` is null; returns their sum.
float block_weights(const float* x, int64_t n, float top, float inverse_temperature, float* weight) {
  const hn::ScalableTag<float> d;
  const int64_t lanes = hn::Lanes(d);
  const auto tops = hn::Set(d, top), scale = hn::Set(d, inverse_temperature);
  auto sums = hn::Zero(d);
  float rest = 0;
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    const auto w = hn::Exp(d, hn::Mul(hn::Sub(hn::LoadU(d, x + i), tops), scale));
    sums = hn::Add(sums, w);
    if (weight != nullptr) hn::StoreU(w, d, weight + i);
  }
  for (; i < n; ++i) {
    const float w = std::exp((x[i] - top) * inverse_temperature);
    rest += w;
    if (weight != nullptr) weight[i] = w;
  }
  return rest + hn::GetLane(hn::SumOfLanes(d, sums));
}

}  // namespace plural::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace plural::kernels {

HWY_EXPORT(largest);
HWY_EXPORT(block_weights);

namespace {

/// The last token that the filters keep, in the order of rank: larger logits first, then lower ids.
struct Edge {
  float logit = kNoLogit;
  int64_t id = std::numeric_limits<int64_t>::max();
  bool keeps(float x, int64_t i) const { return x > logit || (x == logit && i <= id); }
  bool stricter_than(const Edge& other) const {
    return other.keeps(logit, id) && !(logit == other.logit && id == other.id);
  }
};

/// Tokens by distance from the largest logit. Equal or lower logits never come in an earlier bucket, so the order
/// of buckets is the order of rank.
class Ranking {
 public:
  Ranking(const float* logits, const float* weight, int64_t n, float top)
      : logits_(logits), weight_(weight), n_(n), top_(top) {
    for (int64_t i = 0; i < n; ++i) {
      const int b = bucket(logits[i]);
      ++count_[b];
      mass_[b] += weight[i];
    }
  }

  /// The edge of the k first tokens; `kept` becomes their mass.
  Edge first_tokens(int64_t k, double& kept) const {
    return walk([&](int64_t count, double) { return count >= k; }, kept);
  }
  /// The edge of the fewest first tokens with at least `mass`.
  Edge first_mass(double mass) const {
    double kept = 0;
    return walk([&](int64_t, double sum) { return sum >= mass; }, kept);
  }

 private:
  // 1/16 nat (at temperature 1) a bucket: a few hundred tokens at most in the crowded ones of a real model.
  static constexpr int kBuckets = 4096;
  static constexpr float kPerNat = 16.0F;

  int bucket(float x) const {
    const float distance = (top_ - x) * kPerNat;
    return distance < kBuckets - 1 ? static_cast<int>(distance) : kBuckets - 1;
  }

  // Goes down the ranks until enough(tokens so far, mass so far).
  template <class Enough>
  Edge walk(const Enough& enough, double& mass) const {
    int64_t count = 0;
    mass = 0;
    for (int b = 0; b < kBuckets; ++b) {
      if (count_[b] == 0) continue;
      if (!enough(count + count_[b], mass + mass_[b])) {
        count += count_[b];
        mass += mass_[b];
        continue;
      }
      std::vector<int64_t> ids;
      ids.reserve(count_[b]);
      for (int64_t i = 0; i < n_; ++i) {
        if (bucket(logits_[i]) == b) ids.push_back(i);
      }
      std::sort(ids.begin(), ids.end(),
                [&](int64_t i, int64_t j) { return logits_[i] > logits_[j] || (logits_[i] == logits_[j] && i < j); });
      for (const int64_t i : ids) {
        mass += weight_[i];
        if (enough(++count, mass)) return {logits_[i], i};
      }
      return {logits_[ids.back()], ids.back()};  // the two ways of summing the bucket differ by rounding
    }
    return {};
  }

  const float* logits_;
  const float* weight_;
  int64_t n_;
  float top_;
  std::array<int64_t, kBuckets> count_{};
  std::array<double, kBuckets> mass_{};
};

/// The drawn id among the kept tokens, walked in the order of ids.
int64_t draw_filtered(const SampleParams& p, const float* logits, const float* weight, float top, double total,
                      double u) {
  Edge edge;
  if (p.top_k > 0 || p.top_p < 1) {
    const Ranking ranking(logits, weight, p.drawable, top);
    double kept = total;
    if (p.top_k > 0) edge = ranking.first_tokens(p.top_k, kept);
    if (p.top_p < 1) {
      const Edge nucleus = ranking.first_mass(p.top_p * kept);
      if (nucleus.stricter_than(edge)) edge = nucleus;
    }
  }
  std::vector<int64_t> ids;
  double mass = 0;
  for (int64_t i = 0; i < p.drawable; ++i) {
    if (edge.keeps(logits[i], i) && (weight[i] >= p.min_p || logits[i] == top) && weight[i] > 0) {
      ids.push_back(i);
      mass += weight[i];
    }
  }
  double sum = 0;
  for (const int64_t i : ids) {
    sum += weight[i];
    if (sum > u * mass) return i;
  }
  return ids.back();
}

void sample_row(const SampleParams& p, int64_t r) {
  const float* logits = p.logits + r * p.vocab;
  const float top = HWY_DYNAMIC_DISPATCH(largest)(logits, p.drawable);
  const bool greedy = p.temperature == 0;
  const float inverse_temperature = greedy ? 1.0F : 1.0F / p.temperature;
  const bool filtered = !greedy && (p.top_k > 0 || p.top_p < 1 || p.min_p > 0);

  const int64_t blocks = (p.drawable + kBlock - 1) / kBlock;
  thread_local std::vector<float> weight;  // the row's when filtered, else one block's
  thread_local std::vector<double> block_sum;
  weight.resize(filtered ? p.drawable : kBlock);
  block_sum.resize(blocks);
  const auto weigh = [&](int64_t first, int64_t end, float* to) {
    return HWY_DYNAMIC_DISPATCH(block_weights)(logits + first, end - first, top, inverse_temperature, to);
  };
  const auto block_end = [&](int64_t first, int64_t end) { return std::min(first + kBlock, end); };
  double mass = 0;  // of the ids that can be drawn
  for (int64_t b = 0; b < blocks; ++b) {
    const int64_t first = b * kBlock;
    block_sum[b] = weigh(first, block_end(first, p.drawable), filtered ? weight.data() + first : nullptr);
    mass += block_sum[b];
  }
  double total = mass;
  for (int64_t first = p.drawable; first < p.vocab; first += kBlock) {
    total += weigh(first, block_end(first, p.vocab), nullptr);
  }
  if (!std::isfinite(total)) {
    p.ids[r] = 0;
    p.log_prob[r] = std::numeric_limits<float>::quiet_NaN();
    return;
  }

  int64_t id = 0;
  if (greedy) {
    while (logits[id] != top) ++id;
  } else {
    const double u = draw_uniform(p.key, p.step, static_cast<uint32_t>(p.rows[r].row),
                                  static_cast<uint32_t>(p.rows[r].token));
    if (filtered) {
      id = draw_filtered(p, logits, weight.data(), top, mass, u);
    } else {
      double sum = 0;
      int64_t b = 0;
      while (b + 1 < blocks && sum + block_sum[b] <= u * mass) sum += block_sum[b++];
      while (block_sum[b] == 0) --b;  // rounding can lead past the last block with any mass
      const int64_t first = b * kBlock, end = block_end(first, p.drawable);
      weigh(first, end, weight.data());
      for (int64_t i = first; i < end; ++i) {
        if (weight[i - first] == 0) continue;
        id = i;  // the last one with any mass stays when rounding leads past the block's end
        sum += weight[i - first];
        if (sum > u * mass) break;
      }
    }
  }
  p.ids[r] = id;
  p.log_prob[r] = static_cast<float>((static_cast<double>(logits[id]) - top) * inverse_temperature - std::log(total));
}

}  // namespace

void sample_cpu(const SampleParams& params) {
  at::parallel_for(0, params.row_count, 1, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) sample_row(params, r);
  });
}

}  // namespace plural::kernels
#endif  // HWY_ONCE
