// SPDX-License-Identifier: Apache-2.0
#include "lib/text/words.h"

#include <algorithm>
#include <unordered_set>

#include "lib/core/format.h"
#include "plural/error.h"

namespace plural {

std::vector<std::string_view> split_words(std::string_view text) {
  std::vector<std::string_view> words;
  for (size_t begin = text.find_first_not_of(' '); begin != std::string_view::npos;) {
    const size_t end = std::min(text.find(' ', begin), text.size());
    words.push_back(text.substr(begin, end - begin));
    begin = text.find_first_not_of(' ', end);
  }
  return words;
}

std::vector<std::string> word_n_grams(std::span<const std::string_view> words, int64_t n) {
  PLURAL_CHECK(n >= 1, fmt::format("n-grams need n >= 1, got {}", n));
  std::vector<std::string> grams;
  const auto length = static_cast<size_t>(n);
  for (size_t first = 0; first + length <= words.size(); ++first) {
    std::string& gram = grams.emplace_back(words[first]);
    for (const std::string_view word : words.subspan(first + 1, length - 1)) gram.append(" ").append(word);
  }
  return grams;
}

double jaccard(std::span<const std::string_view> a, std::span<const std::string_view> b) {
  if (a.empty() && b.empty()) return 1;
  size_t shared = 0;
  for (auto left = a.begin(), right = b.begin(); left != a.end() && right != b.end();) {
    if (*left == *right)
      ++shared, ++left, ++right;
    else if (*left < *right)
      ++left;
    else
      ++right;
  }
  return static_cast<double>(shared) / static_cast<double>(a.size() + b.size() - shared);
}

DistinctCounts count_distinct_n_grams(std::span<const std::string_view> texts, int64_t n) {
  DistinctCounts counts;
  std::unordered_set<std::string> seen;
  for (const std::string_view text : texts) {
    std::vector<std::string> grams = word_n_grams(split_words(text), n);
    counts.all += static_cast<int64_t>(grams.size());
    const size_t before = seen.size();
    for (std::string& gram : grams) seen.insert(std::move(gram));
    counts.fresh.push_back(static_cast<int64_t>(seen.size() - before));
  }
  return counts;
}

}  // namespace plural
