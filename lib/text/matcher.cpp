// SPDX-License-Identifier: Apache-2.0
#include <ATen/Parallel.h>

#include <memory>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "lib/core/format.h"
#include "lib/text/code_matcher.h"
#include "lib/text/external_matcher.h"
#include "lib/text/judge_matcher.h"
#include "lib/text/normal_form.h"
#include "lib/text/numeric_matcher.h"
#include "plural/answers.h"
#include "plural/error.h"

namespace plural {
namespace {

/// Examples that a thread makes ready at a time, and candidates that it looks up: a few tens of microseconds of work.
constexpr int64_t kExamplesAtATime = 4, kQuestionsAtATime = 64;

/// The one that stands for gold answer `index`, given where its answer and its aliases lead: itself if any of them
/// leads to it.
int64_t owner_of(int64_t index, std::span<const int64_t> spellings) {
  int64_t owner = -1;
  for (const int64_t other : spellings)
    if ((owner < 0 || other == index) && owner != index) owner = other;
  return owner;
}

/// Equal keys match; the first gold answer with a key owns it. An empty key matches nothing.
class KeyMatcher final : public Matcher {
 public:
  KeyMatcher(std::string name, bool aliases, bool word_sets)
      : name_(std::move(name)), aliases_(aliases), word_sets_(word_sets) {}

  std::string name() const override { return name_; }

  int64_t match(const Answer& candidate, const Example& example) const override {
    return prepare(example).match(candidate);
  }

  PreparedMatch prepare(const Example& example) const override {
    auto gold = std::make_shared<const GoldKeys>(read_gold(example));
    std::vector<int64_t> owners = owners_of(example, *gold);
    return {[this, gold](const Answer& candidate) {
              return word_sets_ ? look_up(gold->owner_of_key, word_set_key(candidate.text))
                                : look_up(gold->owner_of_key, candidate.normal);
            },
            std::move(owners)};
  }

  std::vector<int64_t> gold_owners(const Example& example) const override {
    return owners_of(example, read_gold(example));
  }

  std::string key(const Answer& candidate) const override {
    return word_sets_ ? word_set_key(candidate.text) : candidate.normal;
  }

 private:
  using KeyTable = std::unordered_map<std::string_view, int64_t>;
  struct GoldKeys {
    GoldKeys() = default;
    GoldKeys(GoldKeys&&) = default;  // no copies: the table looks at the keys

    std::vector<std::string> keys;  ///< of each gold answer and its aliases, in order
    KeyTable owner_of_key;          ///< the first gold answer with a key
  };

  GoldKeys read_gold(const Example& example) const {
    GoldKeys gold;
    size_t spellings = example.gold.size();
    for (const GoldAnswer& answer : example.gold) spellings += answer.aliases.size();
    gold.keys.reserve(spellings);  // they stay where they are
    gold.owner_of_key.reserve(spellings);
    const auto key_of = [this](const std::string& text) { return word_sets_ ? word_set_key(text) : normal_form(text); };
    for (size_t i = 0; i < example.gold.size(); ++i) {
      gold.keys.push_back(key_of(example.gold[i].answer));
      gold.owner_of_key.emplace(gold.keys.back(), i);
      for (const std::string& alias : example.gold[i].aliases) {
        gold.keys.push_back(key_of(alias));
        if (aliases_) gold.owner_of_key.emplace(gold.keys.back(), i);
      }
    }
    gold.owner_of_key.erase("");
    return gold;
  }

  static std::vector<int64_t> owners_of(const Example& example, const GoldKeys& gold) {
    std::vector<int64_t> owners, spellings;
    auto key = gold.keys.begin();
    for (size_t i = 0; i < example.gold.size(); ++i) {
      spellings.clear();
      for (size_t s = 0; s <= example.gold[i].aliases.size(); ++s)
        spellings.push_back(look_up(gold.owner_of_key, *key++));
      owners.push_back(owner_of(static_cast<int64_t>(i), spellings));
    }
    return owners;
  }

  static int64_t look_up(const KeyTable& owner_of_key, std::string_view key) {
    const auto found = owner_of_key.find(key);
    return found == owner_of_key.end() ? int64_t{-1} : found->second;
  }

  std::string name_;
  bool aliases_;
  bool word_sets_;
};

}  // namespace

MatchVerdicts Matcher::match_all(std::span<const MatchQuestion> questions, const std::stop_token&) const {
  std::unordered_map<const Example*, size_t> places;  // the rows of a group share what was made ready once
  std::vector<const Example*> examples;
  std::vector<size_t> place_of(questions.size());
  for (size_t i = 0; i < questions.size(); ++i) {
    const Example* example = questions[i].example;
    if (i > 0 && example == questions[i - 1].example) {  // the next answer of a row, or row of a group
      place_of[i] = place_of[i - 1];
      continue;
    }
    const auto [place, is_new] = places.try_emplace(example, examples.size());
    if (is_new) examples.push_back(example);
    place_of[i] = place->second;
  }
  std::vector<PreparedMatch> prepared(examples.size());
  at::parallel_for(0, static_cast<int64_t>(examples.size()), kExamplesAtATime, [&](int64_t begin, int64_t end) {
    for (auto i = static_cast<size_t>(begin); i < static_cast<size_t>(end); ++i) prepared[i] = prepare(*examples[i]);
  });
  MatchVerdicts verdicts;
  verdicts.gold.resize(questions.size());
  at::parallel_for(0, static_cast<int64_t>(questions.size()), kQuestionsAtATime, [&](int64_t begin, int64_t end) {
    for (auto i = static_cast<size_t>(begin); i < static_cast<size_t>(end); ++i)
      verdicts.gold[i] = prepared[place_of[i]].match(*questions[i].candidate);
  });
  for (size_t i = 0; i < examples.size(); ++i)
    if (!prepared[i].owners.empty()) verdicts.owners.emplace(examples[i], std::move(prepared[i].owners));
  // Taking the tables of large gold sets apart costs about as much as looking the answers up.
  at::parallel_for(0, static_cast<int64_t>(examples.size()), kExamplesAtATime, [&](int64_t begin, int64_t end) {
    for (auto i = static_cast<size_t>(begin); i < static_cast<size_t>(end); ++i) prepared[i].match = nullptr;
  });
  return verdicts;
}

std::vector<int64_t> Matcher::gold_owners(const Example& example) const {
  const auto match = prepare(example).match;
  std::vector<int64_t> owners;
  std::vector<int64_t> spellings;
  for (size_t i = 0; i < example.gold.size(); ++i) {
    spellings.clear();
    const auto ask = [&](const std::string& text) {
      Answer spelled;
      spelled.text = trim(text);
      spelled.normal = normal_form(text);
      spellings.push_back(match(spelled));
    };
    ask(example.gold[i].answer);
    const auto index = static_cast<int64_t>(i);
    for (const std::string& alias : example.gold[i].aliases)
      if (owner_of(index, spellings) != index) ask(alias);
    owners.push_back(owner_of(index, spellings));
  }
  return owners;
}

std::unique_ptr<Matcher> make_matcher(std::string_view name, const ConfigNode& options,
                                      const VariableLookup& variables) {
  if (name == "numeric") return make_numeric_matcher(options);
  if (name == "external") return make_external_matcher(options);
  if (name == "code") return make_code_matcher(options);
  if (name == "judge") return make_judge_matcher(options, variables);
  if (!options.entries.empty())
    throw InputError(fmt::format("{}: the matcher '{}' has no option '{}'", to_string(options.entries[0].mark), name,
                                 options.entries[0].key));
  if (name == "normalised") return std::make_unique<KeyMatcher>("normalised", false, false);
  if (name == "alias") return std::make_unique<KeyMatcher>("alias", true, false);
  if (name == "word_set") return std::make_unique<KeyMatcher>("word_set", true, true);
  throw InputError(fmt::format(
      "unknown matcher '{}'; the matchers are normalised, alias, word_set, numeric, external, code, judge", name));
}

}  // namespace plural
