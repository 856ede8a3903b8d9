// SPDX-License-Identifier: Apache-2.0
#include "lib/text/numeric_matcher.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <unordered_map>
#include <utility>

#include "lib/core/format.h"
#include "lib/text/normal_form.h"

namespace plural {
namespace {

/// What the text as a whole says, "12%" being 0.12.
std::optional<double> number_of(std::string_view text) {
  text = trim(text);
  if (!text.ends_with('%')) return parse_number(text);
  const std::optional<double> percent = parse_number(text.substr(0, text.size() - 1));
  return percent ? std::optional(*percent / 100) : std::nullopt;
}

/// The spellings of an example's gold answers: numbers, and normal forms with the first gold answer of each.
struct Spellings {
  using Table = std::unordered_map<std::string, int64_t>;
  std::vector<std::pair<double, int64_t>> numbers;
  Table words;  ///< of spellings that are no numbers
  Table all;

  explicit Spellings(const Example& example) {
    for (size_t i = 0; i < example.gold.size(); ++i) {
      add(example.gold[i].answer, static_cast<int64_t>(i));
      for (const std::string& alias : example.gold[i].aliases) add(alias, static_cast<int64_t>(i));
    }
    words.erase("");
    all.erase("");
  }
  static int64_t look_up(const Table& table, const std::string& form) {
    const auto found = table.find(form);
    return found == table.end() ? int64_t{-1} : found->second;
  }

 private:
  void add(const std::string& text, int64_t gold) {
    const std::string form = normal_form(text);
    all.emplace(form, gold);
    if (const auto number = number_of(text))
      numbers.emplace_back(*number, gold);
    else
      words.emplace(form, gold);
  }
};

class NumericMatcher final : public Matcher {
 public:
  struct Options {
    double tolerance = 1e-6;
    template <class V>
    void fields(V& v) {
      v.field("tolerance", tolerance, between(0, 1),
              "numbers a and b are equal when |a - b| <= tolerance max(|a|, |b|)");
    }
  };

  explicit NumericMatcher(Options options) : options_(options) {}
  std::string name() const override { return "numeric"; }

  int64_t match(const Answer& candidate, const Example& example) const override {
    return prepare(example).match(candidate);
  }

  PreparedMatch prepare(const Example& example) const override {
    return {[this, spellings = Spellings(example)](const Answer& candidate) {
      const std::optional<double> number = number_of(candidate.text);
      // The normal forms of two numbers say nothing: that of 1.5 is that of 15.
      if (!number) return Spellings::look_up(spellings.all, candidate.normal);
      const int64_t word = Spellings::look_up(spellings.words, candidate.normal);
      const auto equal = std::find_if(spellings.numbers.begin(), spellings.numbers.end(),
                                      [&](const auto& gold) { return same(*number, gold.first); });
      if (equal == spellings.numbers.end()) return word;
      return word < 0 ? equal->second : std::min(word, equal->second);
    }};
  }

  std::string key(const Answer& candidate) const override {
    const std::optional<double> number = number_of(candidate.text);
    return number ? fmt::format("#{}", *number + 0.0) : candidate.normal;  // -0 is 0; no normal form holds a #
  }

 private:
  bool same(double a, double b) const {
    return std::abs(a - b) <= options_.tolerance * std::max(std::abs(a), std::abs(b));
  }

  Options options_;
};

}  // namespace

std::unique_ptr<Matcher> make_numeric_matcher(const ConfigNode& options) {
  return std::make_unique<NumericMatcher>(read_options<NumericMatcher::Options>(options));
}

}  // namespace plural
