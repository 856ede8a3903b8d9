// SPDX-License-Identifier: Apache-2.0
// Parsing is total and linear: tag soup and random bytes, every format.
#include <time.h>

#include <algorithm>
#include <functional>
#include <string>

#include "lib/core/format.h"
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

/// Seconds for a megabyte of tags: what is promised. Sanitizers, and builds that are not optimised, take their time.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || !defined(NDEBUG)
constexpr double kLimit = 0.5;
#else
constexpr double kLimit = 0.05;
#endif

/// Processor time of this thread, the least of some runs: other work on the machine does not count.
double seconds(const std::function<void()>& work, int runs = 1) {
  double least = 1e30;
  for (int run = 0; run < runs; ++run) {
    timespec begin{}, end{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &begin);
    work();
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &end);
    least = std::min(least, static_cast<double>(end.tv_sec - begin.tv_sec) +
                                1e-9 * static_cast<double>(end.tv_nsec - begin.tv_nsec));
  }
  return least;
}

std::string repeat(const std::string& piece, size_t bytes) {
  std::string text;
  while (text.size() < bytes) text += piece;
  return text;
}

/// <name1><name2>...<name1>...</name1></name2>...: the numbers 1 to `numbers` again and again, all opened, then closed.
std::string nested(const std::string& name, int64_t numbers, size_t bytes) {
  std::string text;
  for (const char* slash : {"", "/"})
    for (int64_t i = 0; text.size() < (*slash == 0 ? bytes / 2 : bytes); ++i)
      text += fmt::format("<{}{}{}>", slash, name, i % numbers + 1);
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
    REQUIRE(set.answers.size() + set.lone_confidences.size() <= static_cast<size_t>(k));
    REQUIRE_NOTHROW(parse_for_evaluation(format, text, k));
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

TEST_CASE("a megabyte of tags takes milliseconds, and four take four times as long, whatever the K") {
  const auto tagged = make_answer_format("multi_answer"), verbalised = make_answer_format("verbalised");
  using Soup = std::function<std::string(size_t bytes)>;
  std::vector<std::pair<std::string, Soup>> soups;
  for (const std::string piece :
       {"<answer1>", "<answer1></answer1>", "<answer1></answer2>", "<think>", "<think></think>", "<think> ", "</think>",
        "<", "<answer1><confidence1>", "<answer9999>", "<answer9999></answer9999>", "<answer123456789>",
        "<answer99999999999999999999999999999>", "<analysis>", "<response>", "<response><text>",
        "<response></response>", "<response><text></response>"})
    soups.emplace_back(piece, [piece](size_t bytes) { return repeat(piece, bytes); });
  for (const std::string name : {"answer", "confidence"})
    for (const int64_t numbers : {5, 100, 10000})
      soups.emplace_back(fmt::format("{} numbers of nested <{}...>", numbers, name),
                         [name, numbers](size_t bytes) { return nested(name, numbers, bytes); });
  for (const auto& [name, soup] : soups) {
    const std::string small = soup(1 << 20), large = soup(4 << 20);
    for (const int64_t k : {int64_t{1}, int64_t{5}, kMaxAnswers})
      for (const AnswerFormat* format : {tagged.get(), verbalised.get()}) {
        INFO(name << ", K = " << k << ", " << format->name());
        const double one = seconds([&] { format->parse(small, k); }, 3);
        CHECK(one < kLimit);
        CHECK(seconds([&] { parse_for_evaluation(*format, small, k); }, 3) < kLimit);
        CHECK(seconds([&] { format->parse(large, k); }, 3) < 8 * one + 0.002);  // 4 times, and what a clock is off
      }
    INFO(name);
    CHECK(seconds([&] { read_numbered(small, 0); }, 3) < 2 * kLimit);
  }
  const std::string wordy = repeat("The cat\u2019s ", 1 << 20);
  CHECK(seconds([&] { normal_form(wordy); }) < 1.0);
  CHECK(seconds([&] { trim(repeat("\u3000", 1 << 20)); }) < 0.5);
  CHECK(seconds([&] { parse_number(repeat("1", 1 << 20) + "x"); }) < 0.5);
  CHECK(seconds([&] { parse_number("0." + repeat("7", 1 << 20)); }) < 0.5);
}
