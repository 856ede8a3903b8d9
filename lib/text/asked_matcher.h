// SPDX-License-Identifier: Apache-2.0
// What the matchers share that ask something outside the process.
#pragma once

#include <map>
#include <mutex>
#include <optional>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "plural/answers.h"

namespace plural {

/// Verdicts that were given before. Failures are not kept: they are asked again. Thread-safe.
template <class Question>
class VerdictMemory {
 public:
  std::optional<int64_t> find(const Question& question) const {
    const std::lock_guard lock(mutex_);
    const auto found = verdicts_.find(question);
    return found == verdicts_.end() ? std::nullopt : std::optional(found->second);
  }
  void keep(const Question& question, int64_t gold) {
    const std::lock_guard lock(mutex_);
    if (verdicts_.size() >= kMost) verdicts_.clear();
    verdicts_[question] = gold;
  }

 private:
  static constexpr size_t kMost = 100'000;
  mutable std::mutex mutex_;
  std::map<Question, int64_t> verdicts_;
};

/// Matcher::gold_owners of a fallback, with what it can match with nothing (option "A") told apart by its text: whoever
/// is asked outside may know it.
inline std::vector<int64_t> owners_by_text(const Example& example, std::vector<int64_t> owners) {
  std::unordered_map<std::string_view, int64_t> first;
  for (size_t i = 0; i < owners.size(); ++i)
    if (owners[i] < 0) owners[i] = first.emplace(example.gold[i].answer, static_cast<int64_t>(i)).first->second;
  return owners;
}

inline constexpr double kMatchDeadlineS = 300;
inline constexpr const char*
    kMatchDeadlineHelp = "seconds for the questions of one batch; those without an answer by then are no match";

}  // namespace plural
