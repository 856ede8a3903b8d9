// SPDX-License-Identifier: Apache-2.0
#include <ATen/Parallel.h>

#include <unordered_map>
#include <utility>
#include <vector>

#include "lib/core/format.h"
#include "lib/text/code_matcher.h"
#include "lib/text/external_matcher.h"
#include "lib/text/normal_form.h"
#include "plural/answers.h"
#include "plural/error.h"

namespace plural {
namespace {

/// Examples that a thread makes ready at a time, and candidates that it looks up: a few tens of microseconds of work.
constexpr int64_t kExamplesAtATime = 4, kQuestionsAtATime = 64;

/// Where the spellings of gold answer `index` lead; to itself if any of them does.
int64_t owner_of(const GoldAnswer& gold, int64_t index, const MatchFunction& match) {
  const auto owner_of_text = [&match](const std::string& text) {
    Answer spelled;
    spelled.text = trim(text);
    spelled.normal = normal_form(text);
    return match(spelled);
  };
  int64_t owner = owner_of_text(gold.answer);
  for (size_t i = 0; i < gold.aliases.size() && owner != index; ++i) {
    const int64_t other = owner_of_text(gold.aliases[i]);
    if (owner < 0 || other == index) owner = other;
  }
  return owner;
}

/// Equal keys match; the first gold answer with a key owns it. An empty key matches nothing.
class KeyMatcher final : public Matcher {
 public:
  KeyMatcher(std::string name, bool aliases, bool word_sets)
      : name_(std::move(name)), aliases_(aliases), word_sets_(word_sets) {}

  std::string name() const override { return name_; }

  int64_t match(const Answer& candidate, const Example& example) const override { return prepare(example)(candidate); }

  MatchFunction prepare(const Example& example) const override {
    std::unordered_map<std::string, int64_t> gold;
    for (size_t i = 0; i < example.gold.size(); ++i) {
      const auto index = static_cast<int64_t>(i);
      gold.emplace(gold_key(example.gold[i].answer), index);
      if (!aliases_) continue;
      for (const std::string& alias : example.gold[i].aliases) gold.emplace(gold_key(alias), index);
    }
    gold.erase("");
    return [this, gold = std::move(gold)](const Answer& candidate) {
      const auto found = gold.find(key(candidate));
      return found == gold.end() ? int64_t{-1} : found->second;
    };
  }

  std::string key(const Answer& candidate) const override {
    return word_sets_ ? word_set_key(candidate.text) : candidate.normal;
  }

 private:
  std::string gold_key(const std::string& text) const { return word_sets_ ? word_set_key(text) : normal_form(text); }

  std::string name_;
  bool aliases_;
  bool word_sets_;
};

}  // namespace

MatchVerdicts Matcher::match_all(std::span<const MatchQuestion> questions) const {
  std::unordered_map<const Example*, size_t> places;  // the rows of a group share what was made ready once
  std::vector<const Example*> examples;
  for (const MatchQuestion& question : questions)
    if (places.try_emplace(question.example, examples.size()).second) examples.push_back(question.example);
  std::vector<MatchFunction> prepared(examples.size());
  at::parallel_for(0, static_cast<int64_t>(examples.size()), kExamplesAtATime, [&](int64_t begin, int64_t end) {
    for (auto i = static_cast<size_t>(begin); i < static_cast<size_t>(end); ++i) prepared[i] = prepare(*examples[i]);
  });
  MatchVerdicts verdicts;
  verdicts.gold.resize(questions.size());
  at::parallel_for(0, static_cast<int64_t>(questions.size()), kQuestionsAtATime, [&](int64_t begin, int64_t end) {
    for (auto i = static_cast<size_t>(begin); i < static_cast<size_t>(end); ++i)
      verdicts.gold[i] = prepared[places.at(questions[i].example)](*questions[i].candidate);
  });
  return verdicts;
}

std::vector<int64_t> Matcher::gold_owners(const Example& example) const {
  const MatchFunction match = prepare(example);
  std::vector<int64_t> owners;
  for (size_t i = 0; i < example.gold.size(); ++i)
    owners.push_back(owner_of(example.gold[i], static_cast<int64_t>(i), match));
  return owners;
}

std::unique_ptr<Matcher> make_matcher(std::string_view name, const ConfigNode& options) {
  if (name == "external") return make_external_matcher(options);
  if (name == "code") return make_code_matcher(options);
  if (!options.entries.empty())
    throw InputError(fmt::format("{}: the matcher '{}' has no option '{}'", to_string(options.entries[0].mark), name,
                                 options.entries[0].key));
  if (name == "normalised") return std::make_unique<KeyMatcher>("normalised", false, false);
  if (name == "alias") return std::make_unique<KeyMatcher>("alias", true, false);
  if (name == "word_set") return std::make_unique<KeyMatcher>("word_set", true, true);
  throw InputError(
      fmt::format("unknown matcher '{}'; the matchers are normalised, alias, word_set, external, code", name));
}

}  // namespace plural
