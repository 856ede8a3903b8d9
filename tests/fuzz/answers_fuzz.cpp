// SPDX-License-Identifier: Apache-2.0
// libFuzzer: any bytes through the answer parser and the text primitives. The first byte picks the format, the second
// K: 1 to 20, or the largest. What is checked besides the sanitizers: the promises of plural/answers.h. No LibTorch is
// linked.
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "lib/text/normal_form.h"
#include "lib/core/utf8.h"
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
