// SPDX-License-Identifier: Apache-2.0
// Parsing is total and linear: tag soup and random bytes, every format.
#include <chrono>
#include <functional>
#include <string>

#include "lib/eval/reference_eval.h"
#include "lib/text/normal_form.h"
#include "plural/answers.h"
#include "plural/rng.h"
#include "tests/support/catch.h"

using namespace plural;

namespace {

std::string soup(RandomStream& stream) {
  static const std::vector<std::string> pieces = {"<think>",
                                                  "</think>",
                                                  "<answer>",
                                                  "</answer>",
                                                  "<answer1>",
                                                  "</answer1>",
                                                  "<answer2>",
                                                  "</answer2>",
                                                  "<answer10>",
                                                  "</answer10>",
                                                  "<answer0>",
                                                  "<answer01>",
                                                  "</answer01>",
                                                  "<answer99999999999999999999>",
                                                  "</answer99999999999999999999>",
                                                  "<confidence>",
                                                  "</confidence>",
                                                  "<confidence1>",
                                                  "</confidence1>",
                                                  "<confidence2>",
                                                  "</confidence2>",
                                                  "<analysis>",
                                                  "</analysis>",
                                                  "<response>",
                                                  "</response>",
                                                  "<text>",
                                                  "</text>",
                                                  "<probability>",
                                                  "</probability>",
                                                  "<",
                                                  ">",
                                                  "</",
                                                  "<<answer1>",
                                                  "0.5",
                                                  "1e-3",
                                                  "nan",
                                                  "cat",
                                                  "the",
                                                  " ",
                                                  "\n",
                                                  "\u00a0",
                                                  "\u2019",
                                                  "\xff",
                                                  "\xc3",
                                                  "\xed\xa0\x80",
                                                  "%"};
  std::string text;
  for (uint64_t n = stream.below(30); n > 0; --n) {
    if (stream.below(8) == 0)
      text.push_back(static_cast<char>(stream.below(256)));
    else
      text += pieces[stream.below(pieces.size())];
  }
  return text;
}

void check_span(Span span, const std::string& text) {
  REQUIRE(span.begin >= 0);
  REQUIRE(span.begin <= span.end);
  REQUIRE(span.end <= static_cast<int64_t>(text.size()));
}

double seconds(const std::function<void()>& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

std::string repeat(const std::string& piece, size_t bytes) {
  std::string text;
  while (text.size() < bytes) text += piece;
  return text;
}

}  // namespace

TEST_CASE("20000 soups through every format") {
  std::vector<std::unique_ptr<AnswerFormat>> formats;
  for (const std::string& name : answer_format_names()) formats.push_back(make_answer_format(name));
  int64_t kept = 0;
  for (uint64_t i = 0; i < 20000; ++i) {
    RandomStream stream(11, RandomPurpose::kUser, i);
    const std::string text = soup(stream);
    const auto k = static_cast<int64_t>(1 + stream.below(4));
    const AnswerFormat& format = *formats[i % formats.size()];
    AnswerSet set;
    REQUIRE_NOTHROW(set = format.parse(text, k));
    REQUIRE(set.answers.size() <= static_cast<size_t>(k));
    REQUIRE(set.format_ok == set.problem.empty());
    REQUIRE((!set.format_ok || set.extracted));
    kept += set.format_ok;
    for (const Answer& answer : set.answers) {
      check_span(answer.answer_bytes, text);
      check_span(answer.confidence_bytes, text);
      const bool stated = !answer.answer_bytes.empty();
      REQUIRE((stated || answer.text.empty()));
      if (stated) REQUIRE(text[static_cast<size_t>(answer.answer_bytes.begin)] == '<');
      if (stated) REQUIRE(text[static_cast<size_t>(answer.answer_bytes.end - 1)] == '>');
    }
    REQUIRE_NOTHROW(read_numbered(text, k));
    REQUIRE_NOTHROW(read_plain_confidence(text));
  }
  CHECK(kept > 0);  // the soup is not so thick that nothing gets through
}

TEST_CASE("a megabyte of tags takes milliseconds, and four take four times as long") {
  const auto format = make_answer_format("multi_answer"), verbalised = make_answer_format("verbalised");
  for (const std::string piece :
       {"<answer1>", "<answer1></answer2>", "<think>", "<think></think>", "<think> ", "</think>", "<",
        "<answer1><confidence1>", "<answer9999>", "<answer123456789>", "<answer99999999999999999999999999999>",
        "<response>", "<response><text>", "<response></response>", "<response><text></response>"}) {
    INFO(piece);
    const std::string text = repeat(piece, 1 << 20);
    CHECK(seconds([&] { format->parse(text, kMaxAnswers); }) < 0.5);
    CHECK(seconds([&] { verbalised->parse(text, kMaxAnswers); }) < 0.5);
    CHECK(seconds([&] { read_numbered(text, 0); }) < 0.5);
  }
  const std::string wordy = repeat("The cat\u2019s ", 1 << 20);
  CHECK(seconds([&] { normal_form(wordy); }) < 1.0);
  CHECK(seconds([&] { trim(repeat("\u3000", 1 << 20)); }) < 0.5);
  CHECK(seconds([&] { parse_number(repeat("1", 1 << 20) + "x"); }) < 0.5);
  CHECK(seconds([&] { parse_number("0." + repeat("7", 1 << 20)); }) < 0.5);
}
