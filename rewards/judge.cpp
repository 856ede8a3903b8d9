// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cctype>
#include <cmath>
#include <nlohmann/json.hpp>
#include <optional>
#include <unordered_map>

#include "lib/core/format.h"
#include "lib/core/json_depth.h"
#include "lib/external/http_client.h"
#include "lib/external/parallel.h"
#include "lib/external/reply_cache.h"
#include "lib/text/normal_form.h"
#include "lib/core/utf8.h"
#include "plural/error.h"
#include "rewards/outside.h"
#include "rewards/reward_support.h"

namespace plural {
namespace {

using Json = nlohmann::json;

struct JudgeOptions {
  std::string url;
  std::string model;
  std::string api_key_env;
  std::string prompt =
      "Question:\n{question}\n\nAccepted answers: {gold}\n\nProposed answer: {answer}\n\n"
      "Does the proposed answer mean the same as one of the accepted answers? Reply with yes or no only.";
  std::string system;
  std::string grading = "yes_no";
  double scale = 10;
  std::string unit = "answer";
  int64_t max_tokens = 16;
  double temperature = 0;
  std::string cache;
  rewards::CombineOptions combine;
  external::HttpOptions http;

  template <class V>
  void fields(V& v) {
    v.field("url", url, required_value(), "the endpoint, e.g. http://localhost:8000/v1/chat/completions");
    v.field("model", model, required_value(), "the model that the endpoint is asked for");
    v.field("api_key_env", api_key_env, any_value(), "environment variable with the API key; empty = no key");
    v.field("prompt", prompt, any_value(), "user message; {question} {gold} {answer} {completion} are filled in");
    v.field("system", system, any_value(), "system message; empty = none");
    v.field("grading", grading, one_of({"yes_no", "graded"}), "yes_no: 1 or 0; graded: the reply's number / scale");
    v.field("scale", scale, above(0), "graded: the best grade");
    v.field("unit", unit, one_of({"answer", "completion"}),
            "what is judged: every different answer, or the whole text");
    v.field("max_tokens", max_tokens, at_least(1), "longest reply, in the endpoint's tokens");
    v.field("temperature", temperature, at_least(0), "sampling temperature of the judge");
    v.field("cache", cache, any_value(), "folder that keeps replies; empty = none");
    combine.fields(v);
    http.fields(v);
  }
};

/// The template with its four names replaced, in one pass: what a model wrote is never looked into for names.
std::string fill(const std::string& text, const std::vector<std::pair<std::string, std::string>>& values) {
  std::string out;
  for (size_t at = 0; at < text.size();) {
    const auto hit = std::find_if(values.begin(), values.end(), [&](const auto& value) {
      return text.compare(at, value.first.size(), value.first) == 0;
    });
    if (hit == values.end()) {
      out.push_back(text[at++]);
    } else {
      out += hit->second;
      at += hit->first.size();
    }
  }
  return out;
}

std::string question_of(const Example& example) {
  for (auto turn = example.prompt.rbegin(); turn != example.prompt.rend(); ++turn)
    if (turn->role == "user") return turn->content;
  return "";
}

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
  Judge(JudgeOptions options, const std::string& api_key)
      : options_(std::move(options)), cache_(options_.cache), http_(options_.http) {
    headers_ = {"Content-Type: application/json", "Expect:"};
    if (!api_key.empty()) headers_.push_back("Authorization: Bearer " + api_key);
  }
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
    std::unordered_map<std::string, int64_t> number;  // equal requests are made once
    std::vector<Verdict> verdicts;
    std::vector<std::string> bodies;
    std::vector<int64_t> asked;
    for (const rewards::Slot& slot : slots) {
      std::string body = request(input, slot);
      const auto [found, added] = number.emplace(body, static_cast<int64_t>(bodies.size()));
      if (added) bodies.push_back(std::move(body));
      asked.push_back(found->second);
    }
    verdicts.resize(bodies.size());
    external::for_each_parallel(static_cast<int64_t>(bodies.size()), options_.http.concurrency, [&](int64_t i) {
      verdicts[static_cast<size_t>(i)] = ask(bodies[static_cast<size_t>(i)], input.stop);
    });

    std::vector<double> values;
    for (const int64_t i : asked) values.push_back(verdicts[static_cast<size_t>(i)].value);
    RewardOutput out = options_.unit == "answer"
                           ? rewards::combine_answers(answers, slots, values, options_.combine)
                           : RewardOutput{.row = at::tensor(values, at::kDouble)
                                                     .to(answers.k.device(), answers.confidence.scalar_type())};
    out.metrics = {{"requests", 0}, {"retries", 0}, {"cache_hits", 0}, {"failures", 0}, {"cache_errors", 0}};
    for (const Verdict& verdict : verdicts) {
      out.metrics["requests"] += static_cast<double>(verdict.attempts);
      out.metrics["retries"] += static_cast<double>(std::max<int64_t>(0, verdict.attempts - 1));
      out.metrics["cache_hits"] += verdict.from_cache;
      out.metrics["failures"] += verdict.failed;
      out.metrics["cache_errors"] += verdict.cache_error;
      if (out.problem.empty()) out.problem = verdict.problem;
    }
    return out;
  }

 private:
  struct Verdict {
    double value = 0;
    int64_t attempts = 0;
    bool failed = false, from_cache = false, cache_error = false;
    std::string problem;
  };

  std::string request(const RewardInput& input, const rewards::Slot& slot) const {
    const auto b = static_cast<size_t>(slot.row);
    const Example& example = *input.examples[b];
    const std::vector<Answer>& list = input.answers.sets[b].answers;
    const std::string answer = options_.unit == "answer" ? list[static_cast<size_t>(slot.slot)].text : "";
    Json messages = Json::array();
    if (!options_.system.empty()) messages.push_back({{"role", "system"}, {"content", options_.system}});
    messages.push_back(
        {{"role", "user"},
         {"content", fill(options_.prompt, {{"{question}", question_of(example)},
                                            {"{gold}", rewards::gold_text(example)},
                                            {"{answer}", replace_invalid_utf8(answer)},
                                            {"{completion}", replace_invalid_utf8(input.completions[b])}})}});
    const Json body = {{"model", options_.model},
                       {"messages", std::move(messages)},
                       {"temperature", options_.temperature},
                       {"max_tokens", options_.max_tokens}};
    return body.dump(-1, ' ', false, Json::error_handler_t::replace);
  }

  Verdict ask(const std::string& body, const std::stop_token& stop) const {
    Verdict verdict;
    const std::string key = options_.url + "\n" + body;
    if (const auto kept = cache_.find(key)) {
      if (const auto value = grade(*kept)) {
        verdict.value = *value;
        verdict.from_cache = true;
        return verdict;
      }
    }
    const external::HttpReply reply = http_.post(options_.url, headers_, body, stop);
    verdict.attempts = reply.attempts;
    verdict.problem = reply.problem;
    if (reply.problem.empty()) {
      const std::optional<std::string> text = content_of(reply.body);
      const std::optional<double> value = text ? grade(*text) : std::nullopt;
      if (value) {
        verdict.value = *value;
        verdict.cache_error = !keep(key, *text);
        return verdict;
      }
      verdict.problem = fmt::format("expected {}, found {}",
                                    options_.grading == "yes_no" ? "yes or no" : "a grade in the scale",
                                    (text ? *text : reply.body).substr(0, 200));
    }
    verdict.failed = true;
    verdict.value = options_.combine.fail_value;
    return verdict;
  }

  /// A reply that cannot be kept is a reply all the same.
  bool keep(const std::string& key, const std::string& text) const {
    try {
      cache_.store(key, text);
      return true;
    } catch (const SystemError&) {
      return false;
    }
  }

  static std::optional<std::string> content_of(const std::string& body) {
    if (detail::json_too_deep(body)) return std::nullopt;
    const Json json = Json::parse(body, nullptr, false);
    const Json::json_pointer place("/choices/0/message/content");
    if (!json.is_object() || !json.contains(place) || !json[place].is_string()) return std::nullopt;
    return json[place].get<std::string>();
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
  std::vector<std::string> headers_;
  external::ReplyCache cache_;
  mutable external::HttpClient http_;
};

/// The key that `variable` holds. It goes into a header line and nowhere else.
std::string read_api_key(const std::string& variable, const VariableLookup& variables) {
  if (variable.empty()) return "";
  if (!variables) {
    throw InputError(
        fmt::format("api_key_env: this program gives rewards no variables, so '{}' cannot be read; pass a "
                    "lookup to builtin_rewards()",
                    variable));
  }
  const std::optional<std::string> key = variables(variable);
  if (!key || key->empty())
    throw InputError(
        fmt::format("api_key_env: the environment variable '{}' is not set; export it before the run", variable));
  if (std::any_of(key->begin(), key->end(), [](unsigned char c) { return c < 0x21 || c > 0x7e; }))
    throw InputError(
        fmt::format("api_key_env: the variable '{}' holds spaces or control characters; a key has none", variable));
  return *key;
}

}  // namespace

void register_judge(Registry<Reward>& registry, const VariableLookup& variables) {
  registry.add(
      "judge", "verdicts of another model, asked over HTTP",
      [variables](const ConfigNode& options) -> std::unique_ptr<Reward> {
        ConfigNode map = options;
        map.kind = ConfigNode::Kind::kMap;
        auto read = read_options<JudgeOptions>(map);
        const std::string key = read_api_key(read.api_key_env, variables);
        return std::make_unique<Judge>(std::move(read), key);
      },
      describe_options<JudgeOptions>());
}

}  // namespace plural
