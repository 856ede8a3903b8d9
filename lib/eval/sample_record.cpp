// SPDX-License-Identifier: Apache-2.0
#include "lib/eval/sample_record.h"

#include <ATen/ATen.h>

#include <set>

#include "lib/core/format.h"
#include "lib/core/utf8.h"
#include "plural/error.h"

namespace plural::eval {

using Json = nlohmann::ordered_json;

namespace {

/// A place in the text as it is written, after the repair of invalid UTF-8. Tags are ASCII, so a block's ends never lie
/// inside a character.
class WrittenPlaces {
 public:
  explicit WrittenPlaces(std::string_view text) : text_(text), valid_(is_valid_utf8(text)) {}
  int64_t operator()(int64_t byte) const {
    return valid_ ? byte
                  : static_cast<int64_t>(replace_invalid_utf8(text_.substr(0, static_cast<size_t>(byte))).size());
  }

 private:
  std::string_view text_;
  bool valid_;
};

}  // namespace

std::vector<int64_t> matches_of_row(const AnswerBatch& batch, int64_t row) {
  const Tensor match = batch.match[row].to(at::kCPU).contiguous();
  const auto* first = match.const_data_ptr<int64_t>();
  return {first, first + batch.sets[static_cast<size_t>(row)].answers.size()};
}

Json answers_record(std::span<const std::string_view> completions, const AnswerSet& answers,
                    std::span<const int64_t> match, const Matcher& matcher) {
  PLURAL_CHECK(match.size() == answers.answers.size(),
               fmt::format("{} matches for {} answers", match.size(), answers.answers.size()));
  std::vector<WrittenPlaces> written;
  for (const std::string_view text : completions) written.emplace_back(text);
  Json list = Json::array();
  std::set<std::string> seen;
  std::set<int64_t> hit;
  for (size_t i = 0; i < answers.answers.size(); ++i) {
    const Answer& answer = answers.answers[i];
    const WrittenPlaces& place = written[written.size() > 1 ? i : 0];
    // Two spellings of one gold answer are one answer as well.
    const std::string key = matcher.key(answer);
    const bool again = (!key.empty() && !seen.insert(key).second) || (match[i] >= 0 && hit.contains(match[i]));
    if (match[i] >= 0) hit.insert(match[i]);
    list.push_back({{"text", replace_invalid_utf8(answer.text)},
                    {"confidence", answer.has_confidence ? Json(answer.confidence) : Json()},
                    {"correct", match[i] >= 0},
                    {"duplicate", again},
                    {"match", match[i]},
                    {"begin", place(answer.answer_bytes.begin)},
                    {"end", place(answer.answer_bytes.end)},
                    {"confidence_begin", place(answer.confidence_bytes.begin)},
                    {"confidence_end", place(answer.confidence_bytes.end)}});
  }
  return list;
}

Json sample_record(const Example& example, std::span<const Completion> completions, const AnswerSet& answers,
                   std::span<const int64_t> match, const Matcher& matcher) {
  Json gold = Json::array(), texts = Json::array();
  for (const GoldAnswer& answer : example.gold) gold.push_back(answer.answer);
  std::vector<std::string_view> parsed;
  size_t tokens = 0;
  for (const Completion& completion : completions) {
    parsed.push_back(completion.text);
    texts.push_back(replace_invalid_utf8(completion.text));
    tokens += completion.ids.size();
  }
  Json record = {{"id", example.id}, {"prompt", example.prompt.empty() ? "" : example.prompt.back().content}};
  if (completions.size() > 1)
    record["completions"] = std::move(texts);
  else
    record["completion"] = std::move(texts.front());
  record["tokens"] = tokens;
  if (completions.size() == 1 && !completions.front().ids.empty())
    record["finish_reason"] = std::string(to_string(completions.front().finish));
  record["format_ok"] = answers.format_ok;
  record["problem"] = answers.problem;
  record["answers"] = answers_record(parsed, answers, match, matcher);
  record["gold"] = std::move(gold);
  return record;
}

std::string json_line(const Json& value) { return value.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n"; }

}  // namespace plural::eval
