// SPDX-License-Identifier: Apache-2.0
// libFuzzer: any bytes through the answer parser, the evaluation's readers and the text primitives. The first byte
// picks the format, the second K: 1 to 20, or the largest. What is checked besides the sanitizers: the promises of
// plural/answers.h. No LibTorch is linked.
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "lib/core/utf8.h"
#include "lib/eval/reference_eval.h"
#include "lib/text/normal_form.h"
#include "plural/answers.h"

namespace {

void check(bool kept) {
  if (!kept) std::abort();
}

const std::vector<std::unique_ptr<plural::AnswerFormat>>& formats() {
  static const auto all = [] {
    std::vector<std::unique_ptr<plural::AnswerFormat>> list;
    for (const std::string& name : plural::answer_format_names()) list.push_back(plural::make_answer_format(name));
    return list;
  }();
  return all;
}

void check_block(plural::Span span, std::string_view text) {
  check(span.begin >= 0 && span.begin <= span.end && span.end <= static_cast<int64_t>(text.size()));
  if (span.empty()) return;
  check(text[static_cast<size_t>(span.begin)] == '<' && text[static_cast<size_t>(span.end) - 1] == '>');
}

/// No capitals, no punctuation and no two spaces in a row, as far as ASCII goes.
void check_normal(std::string_view normal) {
  char last = ' ';
  for (const char c : normal) {
    check(c == ' ' || (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || static_cast<unsigned char>(c) < 0x20 ||
          static_cast<unsigned char>(c) >= 0x7f);
    check(c != ' ' || last != ' ');
    last = c;
  }
  check(normal.empty() || last != ' ');
}

void check_probability(const std::optional<double>& value) { check(!value || (*value >= 0 && *value <= 1)); }

/// What evaluation reads is what training reads, but for percentages.
void check_evaluation(const plural::AnswerFormat& format, std::string_view text, int64_t k,
                      const plural::AnswerSet& trained) {
  const plural::AnswerSet set = plural::parse_for_evaluation(format, text, k);
  check(set.answers.size() == trained.answers.size() && set.format_ok == trained.format_ok);
  for (size_t i = 0; i < set.answers.size(); ++i) {
    const double evaluated = set.answers[i].confidence, strict = trained.answers[i].confidence;
    check(set.answers[i].text == trained.answers[i].text);
    if (!format.has_confidences())
      check(std::isnan(evaluated) && set.answers[i].confidence_bytes.empty());
    else if (std::isnan(strict))
      check(std::isnan(evaluated) || (evaluated >= 0 && evaluated <= 1));
    else
      check(evaluated == strict);
  }
}

void check_readers(std::string_view text, int64_t k) {
  for (const int64_t wanted : {k, int64_t{0}}) {
    const auto candidates = plural::read_numbered(text, wanted);
    if (!candidates) continue;
    check(wanted == 0 ? candidates->size() <= text.size() : static_cast<int64_t>(candidates->size()) == wanted);
    for (const plural::ReferenceCandidate& candidate : *candidates) {
      check(candidate.text.size() <= text.size());
      check_probability(candidate.confidence);
    }
  }
  check_probability(plural::read_plain_confidence(text));
  check_probability(plural::parse_stated_probability(text));
  if (const auto answer = plural::read_plain_answer(text)) check(answer->size() <= text.size());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  const plural::AnswerFormat& format = *formats()[data[0] % formats().size()];
  const int64_t k = data[1] < 250 ? 1 + data[1] % 20 : plural::kMaxAnswers;
  const std::string_view text(reinterpret_cast<const char*>(data) + 2, size - 2);
  const plural::AnswerSet set = format.parse(text, k);
  check(static_cast<int64_t>(set.answers.size()) <= k);
  check(set.format_ok == set.problem.empty());
  check(!set.format_ok || set.extracted);
  check(static_cast<int64_t>(set.answers.size() + set.lone_confidences.size()) <= k);
  check_evaluation(format, text, k, set);
  check_readers(text, k);
  for (const plural::Answer& answer : set.answers) {
    check_block(answer.answer_bytes, text);
    check_block(answer.confidence_bytes, text);
    check(!answer.answer_bytes.empty() || answer.text.empty());
    check(answer.normal == plural::normal_form(answer.text));
    check_normal(answer.normal);
    check(std::isnan(answer.confidence) || std::isfinite(answer.confidence));
  }
  const auto number = plural::parse_number(text);
  check(!number || std::isfinite(*number));
  check(plural::is_valid_utf8(plural::replace_invalid_utf8(text)));
  check(plural::is_valid_utf8(plural::normal_form(plural::replace_invalid_utf8(text))));
  return 0;
}
