// SPDX-License-Identifier: Apache-2.0
// parser_bench: milliseconds to parse one megabyte of awkward tags, for each kind the slowest answer format, as JSON
// lines. Processor time is counted, the best of the passes.
#include <time.h>

#include <algorithm>
#include <cstdio>
#include <string>
#include <utility>
#include <vector>

#include "plural/answers.h"

namespace {

double cpu_seconds() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

double parse_ms(const plural::AnswerFormat& format, const std::string& text) {
  double best = 1e30;
  for (int pass = 0; pass < 5; ++pass) {
    const double start = cpu_seconds();
    format.parse(text, plural::kMaxAnswers);
    best = std::min(best, cpu_seconds() - start);
  }
  return best * 1e3;
}

std::string megabyte_of(const std::string& piece) {
  std::string text;
  while (text.size() < 1 << 20) text += piece;
  return text;
}

/// <answer1><answer2>...</answer1></answer2>...
std::string nested() {
  std::string text;
  for (int i = 1; text.size() < 1 << 19; ++i) text += "<answer" + std::to_string(i) + ">";
  for (int i = 1; text.size() < 1 << 20; ++i) text += "</answer" + std::to_string(i) + ">";
  return text;
}

}  // namespace

int main() {
  const std::vector<std::pair<std::string, std::string>> texts = {{"nested tags", nested()},
                                                                  {"unclosed <answer1>", megabyte_of("<answer1>")},
                                                                  {"unclosed <think>", megabyte_of("<think>")},
                                                                  {"closing </think>", megabyte_of("</think>")},
                                                                  {"opening brackets", megabyte_of("<")},
                                                                  {"empty pairs", megabyte_of("<answer1></answer1>")}};
  for (const auto& [name, text] : texts) {
    double slowest = 0;
    for (const std::string& format : plural::answer_format_names())
      slowest = std::max(slowest, parse_ms(*plural::make_answer_format(format), text));
    std::printf("{\"text\": \"%s\", \"parse_ms\": %.2f}\n", name.c_str(), slowest);
  }
}
