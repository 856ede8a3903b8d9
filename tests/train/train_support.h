// SPDX-License-Identifier: Apache-2.0
// A world in which trainers run in milliseconds: a tiny model, a format of letters, a reward that likes digits.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "plural/advantage.h"
#include "plural/trainer.h"
#include "tests/support/catch.h"
#include "tests/support/device.h"
#include "tests/support/temp_dir.h"
#include "tests/support/tiny_model.h"

namespace plural {

/// Answers written as "a;b;c". Short, so that byte-level prompts stay short.
class SemicolonFormat final : public AnswerFormat {
 public:
  std::string name() const override { return "semicolon"; }
  bool has_confidences() const override { return false; }
  std::string instruction(int64_t k) const override { return std::to_string(k); }
  AnswerSet parse(std::string_view text, int64_t k) const override {
    AnswerSet set;
    for (size_t at = 0; at <= text.size() && static_cast<int64_t>(set.answers.size()) < k;) {
      const size_t end = std::min(text.find(';', at), text.size());
      Answer answer;
      answer.text = std::string(text.substr(at, end - at));
      answer.normal = normal_form(answer.text);
      answer.answer_bytes = {static_cast<int64_t>(at), static_cast<int64_t>(end)};
      set.answers.push_back(answer);
      at = end + 1;
    }
    set.format_ok = set.extracted = static_cast<int64_t>(set.answers.size()) == k;
    return set;
  }
  std::string render(std::span<const StatedAnswer> answers) const override {
    std::string text;
    for (const StatedAnswer& answer : answers) text += (text.empty() ? "" : ";") + answer.text;
    return text;
  }
};

/// Share of bytes that are a letter of the first half of the alphabet, either case.
class EarlyLetters final : public Reward {
 public:
  std::string name() const override { return "early_letters"; }
  RewardOutput score(const RewardInput& input) const override {
    std::vector<double> values;
    for (const std::string& text : input.completions) {
      double good = 0;
      for (char c : text) good += (c >= 'a' && c <= 'm') || (c >= 'A' && c <= 'M') ? 1 : 0;
      values.push_back(text.empty() ? 0 : good / static_cast<double>(text.size()));
    }
    RewardOutput output;
    output.row = at::tensor(values, at::kFloat).to(input.answers.format_ok.device());
    return output;
  }
};

/// The same value for every row.
class Constant final : public Reward {
 public:
  std::string name() const override { return "constant"; }
  RewardOutput score(const RewardInput& input) const override {
    RewardOutput output;
    output.row = at::full({input.answers.rows}, 0.7, input.answers.format_ok.options().dtype(at::kFloat));
    return output;
  }
};

inline Example make_example(const std::string& id, const std::string& prompt, const std::vector<std::string>& gold) {
  Example example;
  example.id = id;
  example.prompt = {{"user", prompt}};
  for (const std::string& answer : gold) example.gold.push_back({answer, {answer}, 1.0});
  return example;
}

/// Everything that a trainer borrows.
struct World {
  TempDir dir;
  Tokenizer tokenizer;
  std::vector<Example> examples;
  SemicolonFormat format;
  std::unique_ptr<Matcher> matcher = make_matcher("normalised");
  std::unique_ptr<AdvantageEstimator> advantage = builtin_advantages().make("grpo");
  RewardStack rewards;

  World() : tokenizer(prepare(dir.path())) {
    const std::vector<std::string> names = {"x", "yy", "zzz", "w", "vv"};
    for (const std::string& name : names) {
      examples.push_back(make_example("ex-" + name, name, {name + "1", name + "2", name + "3"}));
      examples.back().responses = {{name + ";a", 1.0}, {name + ";bc", 0.5}};
    }
    rewards.add(std::make_unique<EarlyLetters>());
  }
  static Tokenizer prepare(const std::filesystem::path& dir) {
    write_tiny_model_files(dir);
    return Tokenizer::load(dir);
  }
};

/// Metrics without those that the clock decides.
inline MetricMap timeless(const MetricMap& metrics) {
  MetricMap kept;
  for (const auto& [name, value] : metrics)
    if (name.rfind("time/", 0) != 0 && name.rfind("rate/", 0) != 0) kept[name] = value;
  return kept;
}

inline TrainState clone(const TrainState& state) {
  TrainState copy = state;
  for (auto& [name, value] : copy.parameters) value = value.clone();
  for (auto& [name, value] : copy.optimizer) value = value.clone();
  return copy;
}

inline void check_equal(const NamedTensors& a, const NamedTensors& b) {
  REQUIRE(a.size() == b.size());
  for (size_t i = 0; i < a.size(); ++i) {
    INFO(a[i].first);
    CHECK(a[i].first == b[i].first);
    CHECK(at::equal(a[i].second.detach(), b[i].second.detach()));
  }
}

}  // namespace plural
