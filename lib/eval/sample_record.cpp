// SPDX-License-Identifier: Apache-2.0
#include "lib/eval/sample_record.h"

#include <set>

#include "lib/core/utf8.h"

namespace plural::eval {

using Json = nlohmann::ordered_json;

Json answers_record(std::string_view completion, const AnswerSet& answers, const Example& example,
                    const Matcher& matcher) {
  // Places count the bytes of the text as it is written, after the repair of invalid UTF-8. Tags are ASCII, so a
  // block's ends never lie inside a character.
  const bool valid = is_valid_utf8(completion);
  const auto written = [&](int64_t byte) {
    return valid ? byte
                 : static_cast<int64_t>(replace_invalid_utf8(completion.substr(0, static_cast<size_t>(byte))).size());
  };
  Json list = Json::array();
  std::set<std::string> seen;
  std::set<int64_t> hit;
  for (const Answer& answer : answers.answers) {
    const int64_t match = matcher.match(answer, example);
    // Two spellings of one gold answer are one answer as well.
    const bool again = !answer.normal.empty() &&
                       (!seen.insert(matcher.key(answer)).second || (match >= 0 && hit.contains(match)));
    if (match >= 0) hit.insert(match);
    list.push_back({{"text", replace_invalid_utf8(answer.text)},
                    {"confidence", answer.has_confidence ? Json(answer.confidence) : Json()},
                    {"correct", match >= 0},
                    {"duplicate", again},
                    {"match", match},
                    {"begin", written(answer.answer_bytes.begin)},
                    {"end", written(answer.answer_bytes.end)}});
  }
  return list;
}

Json sample_record(const Example& example, const Completion& completion, const AnswerSet& answers,
                   const Matcher& matcher) {
  Json gold = Json::array();
  for (const GoldAnswer& answer : example.gold) gold.push_back(answer.answer);
  return {{"id", example.id},
          {"prompt", example.prompt.empty() ? "" : example.prompt.back().content},
          {"completion", replace_invalid_utf8(completion.text)},
          {"tokens", completion.ids.size()},
          {"finish_reason", std::string(to_string(completion.finish))},
          {"format_ok", answers.format_ok},
          {"problem", answers.problem},
          {"answers", answers_record(completion.text, answers, example, matcher)},
          {"gold", std::move(gold)}};
}

std::string json_line(const Json& value) { return value.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n"; }

}  // namespace plural::eval
