// SPDX-License-Identifier: Apache-2.0
// How different the texts of a set are.
#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>

#include "lib/core/format.h"
#include "lib/kernels/set_gram/set_gram.h"
#include "lib/text/words.h"
#include "plural/error.h"
#include "plural/evaluation.h"

namespace plural {
namespace {

constexpr double kUndefined = std::numeric_limits<double>::quiet_NaN();

using Words = std::vector<std::string_view>;
using Counts = std::map<std::string, int64_t>;  // of n-grams

Counts n_grams(const Words& words, int64_t n) {
  Counts counts;
  for (const std::string& gram : word_n_grams(words, n)) ++counts[gram];
  return counts;
}

/// Sorted, without repeats.
Words word_set(std::string_view text) {
  Words words = split_words(text);
  std::sort(words.begin(), words.end());
  words.erase(std::unique(words.begin(), words.end()), words.end());
  return words;
}

/// ln of the clipped precision of `candidate`'s n-grams: each counts at most as often as in the reference that has
/// most.
double log_precision(const Words& candidate, const std::vector<Words>& references, int64_t n) {
  Counts most;
  for (const Words& reference : references)
    for (const auto& [gram, count] : n_grams(reference, n)) most[gram] = std::max(most[gram], count);
  double kept = 0, all = 0;
  for (const auto& [gram, count] : n_grams(candidate, n)) {
    const auto found = most.find(gram);
    kept += static_cast<double>(found == most.end() ? 0 : std::min(count, found->second));
    all += static_cast<double>(count);
  }
  return std::log(kept / all);
}

double bleu(const Words& candidate, const std::vector<Words>& references, int64_t max_n) {
  if (candidate.empty()) return 0;
  const auto length = static_cast<double>(candidate.size());
  double closest = INFINITY;  // of two equally close lengths the shorter
  for (const Words& reference : references) {
    const auto other = static_cast<double>(reference.size());
    const double gap = std::abs(other - length), best = std::abs(closest - length);
    if (gap < best || (gap == best && other < closest)) closest = other;
  }
  const int64_t longest = std::min(max_n, static_cast<int64_t>(candidate.size()));
  double sum = 0;
  for (int64_t n = 1; n <= longest; ++n) sum += log_precision(candidate, references, n);
  return std::exp(std::min(0.0, 1 - closest / length) + sum / static_cast<double>(longest));
}

}  // namespace

double distinct_n(std::span<const std::string> texts, int64_t n) {
  const DistinctCounts counts = count_distinct_n_grams(Words(texts.begin(), texts.end()), n);
  const auto different = std::accumulate(counts.fresh.begin(), counts.fresh.end(), int64_t{0});
  return counts.all > 0 ? static_cast<double>(different) / static_cast<double>(counts.all) : kUndefined;
}

Tensor jaccard_similarity(std::span<const std::string> texts) {
  std::vector<Words> words;
  for (const std::string& text : texts) words.push_back(word_set(text));
  const auto n = static_cast<int64_t>(words.size());
  Tensor similarity = at::ones({n, n}, at::kDouble);
  auto value = similarity.accessor<double, 2>();
  for (int64_t i = 0; i < n; ++i)
    for (int64_t j = 0; j < i; ++j)
      value[i][j] = value[j][i] = jaccard(words[static_cast<size_t>(i)], words[static_cast<size_t>(j)]);
  return similarity;
}

double mean_pairwise_jaccard(std::span<const std::string> texts) {
  const auto n = static_cast<double>(texts.size());
  if (n < 2) return kUndefined;
  return (jaccard_similarity(texts).sum().item<double>() - n) / (n * (n - 1));  // the diagonal is n ones
}

double self_bleu(std::span<const std::string> texts, int64_t max_n) {
  PLURAL_CHECK(max_n >= 1, fmt::format("BLEU needs n-grams of at least 1 word, got {}", max_n));
  if (texts.size() < 2) return kUndefined;
  std::vector<Words> words;
  for (const std::string& text : texts) words.push_back(split_words(text));
  double sum = 0;
  for (size_t i = 0; i < words.size(); ++i) {
    std::vector<Words> others = words;
    others.erase(others.begin() + static_cast<int64_t>(i));
    sum += bleu(words[i], others, max_n);
  }
  return sum / static_cast<double>(words.size());
}

double vendi_score(const Tensor& similarity) {
  check_shapes({{"similarity", similarity, "N N"}});
  if (similarity.size(0) == 0) return kUndefined;
  return kernels::vendi_scores(similarity.to(at::kCPU, at::kDouble).unsqueeze(0)).item<double>();
}

}  // namespace plural
