// SPDX-License-Identifier: Apache-2.0
#include "lib/eval/sample_record.h"

#include <set>

namespace plural::eval {

using Json = nlohmann::ordered_json;

Json answers_record(const AnswerSet& answers, const Example& example, const Matcher& matcher) {
  Json list = Json::array();
  std::set<std::string> seen;
  std::set<int64_t> hit;
  for (const Answer& answer : answers.answers) {
    const int64_t match = matcher.match(answer, example);
    // Two spellings of one gold answer are one answer as well.
    const bool again = !answer.normal.empty() && (!seen.insert(matcher.key(answer)).second ||
                                                  (match >= 0 && hit.contains(match)));
    if (match >= 0) hit.insert(match);
    list.push_back({{"text", answer.text},
                    {"confidence", answer.has_confidence ? Json(answer.confidence) : Json()},
                    {"correct", match >= 0},
                    {"duplicate", again},
                    {"match", match},
                    {"begin", answer.answer_bytes.begin},
                    {"end", answer.answer_bytes.end}});
  }
  return list;
}

Json sample_record(const Example& example, const Completion& completion, const AnswerSet& answers,
                   const Matcher& matcher) {
  Json gold = Json::array();
  for (const GoldAnswer& answer : example.gold) gold.push_back(answer.answer);
  return {{"id", example.id},
          {"prompt", example.prompt.empty() ? "" : example.prompt.back().content},
          {"completion", completion.text},
          {"tokens", completion.ids.size()},
          {"finish_reason", std::string(to_string(completion.finish))},
          {"format_ok", answers.format_ok},
          {"problem", answers.problem},
          {"answers", answers_record(answers, example, matcher)},
          {"gold", std::move(gold)}};
}

std::string json_line(const Json& value) {
  return value.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace plural::eval
