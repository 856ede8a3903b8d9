// SPDX-License-Identifier: Apache-2.0
// A completion with its parsed answers as one JSON object: the lines of samples/*.jsonl and samples.jsonl.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "plural/answers.h"
#include "plural/rollout.h"

namespace plural::eval {

/// {"id", "prompt", "completion", "tokens", "finish_reason" (absent where there are no ids: the completion was read),
/// "format_ok", "problem", "answers": [{"text", "confidence" (null = none stated), "correct", "duplicate" (an earlier
/// answer says the same), "match", "begin", "end", "confidence_begin", "confidence_end" (bytes of the completion as
/// written)}], "gold": [answers]}. A set of several completions, one for each answer, has "completions", a list, in
/// place of "completion" and "finish_reason"; places are of the answer's own. The caller may add fields of its own.
/// `match`: which gold answer each answer is, -1 = none; its size is that of `answers`.
nlohmann::ordered_json sample_record(const Example& example, std::span<const Completion> completions,
                                     const AnswerSet& answers, std::span<const int64_t> match, const Matcher& matcher);

/// The `answers` list of a record; `completions` are the texts that were parsed: one, or one for each answer.
nlohmann::ordered_json answers_record(std::span<const std::string_view> completions, const AnswerSet& answers,
                                      std::span<const int64_t> match, const Matcher& matcher);

/// Row `row` of AnswerBatch::match for as many answers as the row's set has.
std::vector<int64_t> matches_of_row(const AnswerBatch& batch, int64_t row);

/// One line of a JSON Lines file, with its newline; invalid UTF-8 becomes U+FFFD.
std::string json_line(const nlohmann::ordered_json& value);

}  // namespace plural::eval
