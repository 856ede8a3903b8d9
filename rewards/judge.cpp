// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cctype>
#include <optional>
#include <unordered_map>

#include "lib/core/format.h"
#include "lib/core/utf8.h"
#include "lib/external/chat_client.h"
#include "lib/external/parallel.h"
#include "lib/text/normal_form.h"
#include "rewards/outside.h"
#include "rewards/reward_support.h"

namespace plural {
namespace {

struct JudgeOptions : external::ChatOptions {
  std::string prompt = external::kJudgePrompt;
  std::string grading = "yes_no";
  double scale = 10;
  std::string unit = "answer";
  rewards::CombineOptions combine;

  template <class V>
  void fields(V& v) {
    ChatOptions::fields(v);
    v.field("prompt", prompt, any_value(), "user message; {question} {gold} {answer} {completion} are filled in");
    v.field("grading", grading, one_of({"yes_no", "graded"}), "yes_no: 1 or 0; graded: the reply's number / scale");
    v.field("scale", scale, above(0), "graded: the best grade");
    v.field("unit", unit, one_of({"answer", "completion"}),
            "what is judged: every different answer, or the whole text");
    combine.fields(v);
  }
};

/// The first word in lower case, without punctuation.
std::string first_word(const std::string& text) {
  std::string word;
  for (const char c : text) {
    if (std::isalpha(static_cast<unsigned char>(c)) != 0) {
      word.push_back(static_cast<char>(std::tolower(static_cast<unsigned char>(c))));
    } else if (!word.empty()) {
      break;
    }
  }
  return word;
}

/// Verdicts of another model about answers or completions.
class Judge final : public Reward {
 public:
  Judge(JudgeOptions options, const VariableLookup& variables)
      : options_(std::move(options)), chat_(options_, variables) {}
  std::string name() const override { return "judge"; }
  std::string formula() const override {
    const std::string verdict = options_.grading == "yes_no" ? "1 if the judge says yes"
                                                             : fmt::format("the judge's grade / {}", options_.scale);
    if (options_.unit == "completion") return verdict;
    return options_.combine.combine == "mean" ? "sum over different answers (" + verdict + ") / K"
                                              : "best of " + verdict;
  }
  bool slow() const override { return true; }
  double fail_value() const override { return options_.combine.fail_value; }

  RewardOutput score(const RewardInput& input) const override {
    const AnswerBatch& answers = input.answers;
    std::vector<rewards::Slot> slots;
    if (options_.unit == "completion") {
      for (int64_t b = 0; b < answers.rows; ++b) slots.push_back({b, 0});
    } else {
      slots = rewards::different_answers(answers);
    }
    std::unordered_map<std::string, size_t> number;  // equal requests are made once
    std::vector<std::string> requests;
    std::vector<size_t> asked;
    for (const rewards::Slot& slot : slots) {
      std::string text = request(input, slot);
      const auto [found, added] = number.emplace(text, requests.size());
      if (added) requests.push_back(std::move(text));
      asked.push_back(found->second);
    }
    std::vector<external::ChatReply> replies(requests.size());
    external::for_each_parallel(static_cast<int64_t>(requests.size()), options_.http.concurrency, [&](int64_t i) {
      replies[static_cast<size_t>(i)] = ask(requests[static_cast<size_t>(i)], input.stop);
    });

    std::vector<double> values;
    for (const size_t i : asked) values.push_back(value_of(replies[i]));
    RewardOutput out = options_.unit == "answer"
                           ? rewards::combine_answers(answers, slots, values, options_.combine)
                           : RewardOutput{.row = at::tensor(values, at::kDouble)
                                                     .to(answers.k.device(), answers.confidence.scalar_type())};
    out.metrics = {{"requests", 0}, {"retries", 0}, {"cache_hits", 0}, {"failures", 0}, {"cache_errors", 0}};
    for (const external::ChatReply& reply : replies) {
      external::count(reply, out.metrics);
      if (out.problem.empty()) out.problem = reply.problem;
    }
    return out;
  }

 private:
  std::string request(const RewardInput& input, const rewards::Slot& slot) const {
    const auto b = static_cast<size_t>(slot.row);
    const Example& example = *input.examples[b];
    const std::vector<Answer>& list = input.answers.sets[b].answers;
    const std::string answer = options_.unit == "answer" ? list[static_cast<size_t>(slot.slot)].text : "";
    const std::pair<std::string_view, std::string> values[] = {
        {"{question}", external::question_of(example)},
        {"{gold}", external::gold_text(example)},
        {"{answer}", replace_invalid_utf8(answer)},
        {"{completion}", replace_invalid_utf8(input.completions[b])}};
    return chat_.request(external::fill_template(options_.prompt, values));
  }

  external::ChatReply ask(const std::string& request, const std::stop_token& stop) const {
    return chat_.ask(
        request, stop, [this](const std::string& text) { return grade(text).has_value(); },
        options_.grading == "yes_no" ? "yes or no" : "a grade in the scale");
  }

  double value_of(const external::ChatReply& reply) const {
    return reply.problem.empty() ? *grade(reply.text) : options_.combine.fail_value;
  }

  std::optional<double> grade(const std::string& text) const {
    if (options_.grading == "yes_no") {
      const std::string word = first_word(text);
      if (word == "yes") return 1.0;
      if (word == "no") return 0.0;
      return std::nullopt;
    }
    const size_t begin = text.find_first_of("0123456789");
    if (begin == std::string::npos || (begin > 0 && text[begin - 1] == '-')) return std::nullopt;
    const size_t end = std::min(text.find_first_not_of("0123456789.", begin), text.size());
    std::string number = text.substr(begin, end - begin);
    if (number.back() == '.') number.pop_back();  // the end of a sentence
    const std::optional<double> value = parse_number(number);
    if (!value || *value > options_.scale) return std::nullopt;
    return *value / options_.scale;
  }

  JudgeOptions options_;
  external::ChatClient chat_;
};

}  // namespace

void register_judge(Registry<Reward>& registry, const VariableLookup& variables) {
  registry.add(
      "judge", "verdicts of another model, asked over HTTP",
      [variables](const ConfigNode& options) -> std::unique_ptr<Reward> {
        return std::make_unique<Judge>(read_options<JudgeOptions>(options), variables);
      },
      describe_options<JudgeOptions>());
}

}  // namespace plural
