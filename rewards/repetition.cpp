// SPDX-License-Identifier: Apache-2.0
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "lib/core/format.h"
#include "rewards/reward_support.h"

namespace plural {
namespace {

/// A byte of a word: an ASCII letter or digit, or part of any other character. Letters count in lower case.
char word_byte(char c) {
  if (c >= 'A' && c <= 'Z') return static_cast<char>(c + ('a' - 'A'));
  const bool word = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || static_cast<unsigned char>(c) >= 0x80;
  return word ? c : ' ';
}

/// Words of a text, each as a number that equal words of the text share.
std::vector<int64_t> word_ids(const std::string& text) {
  std::unordered_map<std::string, int64_t> known;
  std::vector<int64_t> ids;
  std::string word;
  for (size_t i = 0; i <= text.size(); ++i) {
    const char c = i < text.size() ? word_byte(text[i]) : ' ';
    if (c != ' ') {
      word += c;
    } else if (!word.empty()) {
      ids.push_back(known.emplace(word, static_cast<int64_t>(known.size())).first->second);
      word.clear();
    }
  }
  return ids;
}

/// 1 - different n-grams / n-grams; 0 for texts of fewer than n words. Linear in the text.
double repeated_share(const std::string& text, int64_t n) {
  const std::vector<int64_t> ids = word_ids(text);
  const auto size = static_cast<size_t>(n);
  if (ids.size() < size) return 0;
  std::unordered_set<std::string_view> different;
  const size_t count = ids.size() - size + 1;
  for (size_t i = 0; i < count; ++i)
    different.emplace(reinterpret_cast<const char*>(ids.data() + i), size * sizeof(int64_t));
  return 1 - static_cast<double>(different.size()) / static_cast<double>(count);
}

/// Minus the share of n-grams of the completion that stood in it before.
class Repetition final : public Reward {
 public:
  struct Options {
    int64_t n = 3;
    template <class V>
    void fields(V& v) {
      v.field("n", n, at_least(1), "words of an n-gram");
    }
  };

  explicit Repetition(Options options) : options_(options) {}
  std::string name() const override { return "repetition"; }
  std::string formula() const override { return fmt::format("-(1 - different {0}-grams / {0}-grams)", options_.n); }

  RewardOutput score(const RewardInput& input) const override {
    std::vector<double> values;
    values.reserve(input.completions.size());
    for (const std::string& text : input.completions) values.push_back(-repeated_share(text, options_.n));
    return {.row = at::tensor(values, at::kDouble).to(input.answers.confidence.options())};
  }

 private:
  Options options_;
};

}  // namespace

void register_repetition(Registry<Reward>& registry) {
  add_reward<Repetition>(registry, "repetition", "-1 to 0: share of repeated n-grams of words");
}

}  // namespace plural
