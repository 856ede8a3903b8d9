// SPDX-License-Identifier: Apache-2.0
// Completions in the compact format, scored by a bundled reward, on the device of the test.
#pragma once

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "lib/core/format.h"
#include "plural/config.h"
#include "plural/reward.h"
#include "tests/support/catch.h"
#include "tests/support/device.h"

namespace plural::testing {

using Pair = std::pair<std::string, std::string>;  ///< answer and confidence as written

/// "<answer1>a</answer1><confidence1>0.5</confidence1>..."; an empty confidence leaves its block out.
inline std::string write_set(const std::vector<Pair>& pairs) {
  std::string text;
  for (size_t i = 0; i < pairs.size(); ++i) {
    text += fmt::format("<answer{0}>{1}</answer{0}>", i + 1, pairs[i].first);
    if (!pairs[i].second.empty()) text += fmt::format("<confidence{0}>{1}</confidence{0}>", i + 1, pairs[i].second);
  }
  return text;
}

/// One example, many completions.
class Scored {
 public:
  Scored(std::vector<GoldAnswer> gold, std::vector<std::string> completions, int64_t k = 3,
         const std::string& format = "compact", const std::string& matcher = "alias")
      : Scored(std::move(gold), completions, std::vector<int64_t>(completions.size(), k), format, matcher) {}
  /// Row b was asked for k[b] answers.
  Scored(std::vector<GoldAnswer> gold, std::vector<std::string> completions, const std::vector<int64_t>& k,
         const std::string& format = "compact", const std::string& matcher = "alias")
      : completions_(std::move(completions)) {
    example_.gold = std::move(gold);
    std::vector<CompletionView> views;
    for (size_t b = 0; b < completions_.size(); ++b) views.push_back({&example_, completions_[b], {}, k[b]});
    examples_.assign(completions_.size(), &example_);
    answers = build_answer_batch(views, *make_answer_format(format), *make_matcher(matcher), nullptr, test_device());
    // As if the first bytes were the tokens, with an entropy that the byte decides.
    std::vector<int64_t> lengths;
    token_entropy_ = at::full({answers.rows, kTokens}, 7.0, at::kFloat);  // past a row's end: must not count
    for (size_t b = 0; b < completions_.size(); ++b) {
      lengths.push_back(std::min<int64_t>(kTokens, static_cast<int64_t>(completions_[b].size())));
      for (int64_t t = 0; t < lengths.back(); ++t)
        token_entropy_[static_cast<int64_t>(b)][t] = 0.25 * (completions_[b][static_cast<size_t>(t)] & 15);
    }
    answers.length = at::tensor(lengths, at::kLong).to(test_device());
    token_entropy_ = token_entropy_.to(test_device());
  }
  RewardInput input() const {
    return {.answers = answers,
            .examples = examples_,
            .completions = completions_,
            .max_new_tokens = kTokens,
            .vocab_size = 256,
            .token_entropy = token_entropy_};
  }
  RewardOutput score(const std::string& name, const std::string& options = "{}") const {
    return builtin_rewards().make(name, parse_yaml(options, "options"))->score(input());
  }
  std::vector<double> rows(const std::string& name, const std::string& options = "{}") const {
    return values(score(name, options).row);
  }
  /// What the slots marked true (the same ones in every row) earn together.
  std::vector<double> subset(const std::string& name, const std::vector<bool>& slots,
                             const std::string& options = "{}") const {
    const Tensor keep = at::tensor(std::vector<int64_t>(slots.begin(), slots.end())).to(at::kBool).to(test_device());
    return values(builtin_rewards()
                      .make(name, parse_yaml(options, "options"))
                      ->score_subset(input(), keep.expand({answers.rows, answers.slots})));
  }
  static std::vector<double> values(const Tensor& tensor) {
    const Tensor flat = tensor.to(at::kCPU, at::kDouble).contiguous();
    return {flat.data_ptr<double>(), flat.data_ptr<double>() + flat.numel()};
  }

  AnswerBatch answers;

 private:
  static constexpr int64_t kTokens = 64;
  Tensor token_entropy_;  // [B, kTokens]
  Example example_;
  std::vector<std::string> completions_;
  std::vector<const Example*> examples_;
};

inline void check_close(const std::vector<double>& found, const std::vector<double>& expected,
                        double tolerance = 1e-6) {
  REQUIRE(found.size() == expected.size());
  for (size_t i = 0; i < found.size(); ++i) {
    INFO("element " << i);
    CHECK(found[i] == Approx(expected[i]).margin(tolerance));
  }
}

/// Gold answers of the tests: cat (also "house cat"), dog, owl.
inline std::vector<GoldAnswer> animals() { return {{"cat", {"house cat"}, 2.0}, {"dog", {}, 1.0}, {"owl", {}, 1.0}}; }

}  // namespace plural::testing
