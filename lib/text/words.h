// SPDX-License-Identifier: Apache-2.0
// Words and word n-grams of texts: what measures of diversity compare, in rewards and in evaluation.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace plural {

/// The words of a text: what stands between spaces (U+0020). Views of `text`.
std::vector<std::string_view> split_words(std::string_view text);

/// The word n-grams of a text in their order, repeats included, each joined by one space. n >= 1.
std::vector<std::string> word_n_grams(std::span<const std::string_view> words, int64_t n);

/// Jaccard similarity |A and B| / |A or B| of two sets of words, sorted and without repeats. Two empty sets: 1.
double jaccard(std::span<const std::string_view> a, std::span<const std::string_view> b);

/// What distinct-n counts over a list of texts (Li et al. 2016, arXiv 1510.03055).
struct DistinctCounts {
  std::vector<int64_t> fresh;  ///< for each text, its n-grams that neither it nor an earlier text had before
  int64_t all = 0;             ///< n-grams of all texts
};
DistinctCounts count_distinct_n_grams(std::span<const std::string_view> texts, int64_t n);

}  // namespace plural
