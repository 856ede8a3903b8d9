// SPDX-License-Identifier: Apache-2.0
// parser_bench: milliseconds to parse one megabyte of awkward tags, as JSON lines: for each kind of text the slowest of
// all answer formats and K = 1, 5, 100, 10,000. Processor time is counted, the best of the passes.
#include <time.h>

#include <algorithm>
#include <cstdio>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "plural/answers.h"

namespace {

constexpr size_t kBytes = 1 << 20;

double cpu_seconds() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

double parse_ms(const plural::AnswerFormat& format, const std::string& text, int64_t k) {
  double best = 1e30;
  for (int pass = 0; pass < 5; ++pass) {
    const double start = cpu_seconds();
    format.parse(text, k);
    best = std::min(best, cpu_seconds() - start);
  }
  return best * 1e3;
}

using Piece = std::function<std::string(int64_t number)>;

Piece always(const std::string& piece) {
  return [piece](int64_t) { return piece; };
}

Piece numbered(const std::string& before, const std::string& after) {
  return [=](int64_t number) { return before + std::to_string(number) + after; };
}

/// Pieces with the numbers 1 to `numbers`, again and again, up to `bytes` in all.
void append(std::string* text, const Piece& piece, int64_t numbers, size_t bytes) {
  for (int64_t i = 0; text->size() < bytes; ++i) *text += piece(i % numbers + 1);
}

std::string megabyte_of(const Piece& piece, int64_t numbers = 1) {
  std::string text;
  append(&text, piece, numbers, kBytes);
  return text;
}

/// All opened in the first half, all closed in the second.
std::string nested(const std::string& name, int64_t numbers) {
  std::string text;
  append(&text, numbered("<" + name, ">"), numbers, kBytes / 2);
  append(&text, numbered("</" + name, ">"), numbers, kBytes);
  return text;
}

std::string repeated(const std::string& open, const std::string& close) {
  std::string text;
  append(&text, always(open), 1, kBytes / 2);
  append(&text, always(close), 1, kBytes);
  return text;
}

std::string pair(const std::string& name, int64_t number) {
  const std::string n = std::to_string(number);
  return "<" + name + n + "></" + name + n + ">";
}

std::vector<std::pair<std::string, std::string>> texts() {
  std::vector<std::pair<std::string, std::string>> list = {
      {"opening brackets", megabyte_of(always("<"))},
      {"unclosed <answer1>", megabyte_of(always("<answer1>"))},
      {"unclosed <answer9999>", megabyte_of(always("<answer9999>"))},
      {"unclosed <answer1> to <answer10000>", megabyte_of(numbered("<answer", ">"), 10000)},
      {"unclosed <confidence1> to <confidence10000>", megabyte_of(numbered("<confidence", ">"), 10000)},
      {"a number of 30 digits", megabyte_of(always("<answer999999999999999999999999999999>"))},
      {"unclosed <think>", megabyte_of(always("<think>"))},
      {"closing </think>", megabyte_of(always("</think>"))},
      {"blank think blocks", megabyte_of(always("<think> </think>"))},
      {"nested think tags", repeated("<think>", "</think>")},
      {"nested <answer>", repeated("<answer>", "</answer>")},
      {"nested <response>", repeated("<response>", "</response>")},
      {"unclosed <response><text>", megabyte_of(always("<response><text>"))},
      {"empty responses", megabyte_of(always("<response></response>"))},
      {"empty pairs <answer1>", megabyte_of(always("<answer1></answer1>"))},
      {"empty pairs <answer1> to <answer10000>", megabyte_of([](int64_t i) { return pair("answer", i); }, 10000)},
      {"whole sets of 10000", megabyte_of([](int64_t i) { return pair("answer", i) + pair("confidence", i); }, 10000)},
  };
  for (const char* name : {"answer", "confidence"})
    for (const int64_t numbers : {1, 5, 100, 10000})
      list.emplace_back("nested <" + std::string(name) + "1> to <" + name + std::to_string(numbers) + ">",
                        nested(name, numbers));
  return list;
}

}  // namespace

int main() {
  for (const auto& [name, text] : texts()) {
    double slowest = 0;
    std::string format_name;
    int64_t slowest_k = 0;
    for (const std::string& format : plural::answer_format_names())
      for (const int64_t k : {int64_t{1}, int64_t{5}, int64_t{100}, plural::kMaxAnswers}) {
        const double ms = parse_ms(*plural::make_answer_format(format), text, k);
        if (ms <= slowest) continue;
        slowest = ms, format_name = format, slowest_k = k;
      }
    std::printf("{\"text\": \"%s\", \"parse_ms\": %.2f, \"format\": \"%s\", \"num_answers\": %lld}\n", name.c_str(),
                slowest, format_name.c_str(), static_cast<long long>(slowest_k));
  }
}
