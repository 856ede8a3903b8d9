// SPDX-License-Identifier: Apache-2.0
// tokenizer_bench MODEL_DIR TEXT_FILE [SECONDS]: MB/s of encode and decode on one core, as one JSON
// line. Processor time is counted, so that other work on the machine does not show; the best of the
// passes is reported.
#include <algorithm>
#include <cstdio>
#include <ctime>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "plural/error.h"
#include "plural/tokenizer.h"

namespace {

double cpu_seconds() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

/// Seconds of the fastest of the calls that fit into `budget_s` (at least three).
template <class Work>
double fastest_s(double budget_s, Work work) {
  double best = 1e30;
  const double start = cpu_seconds();
  for (int pass = 0; pass < 3 || cpu_seconds() - start < budget_s; ++pass) {
    const double before = cpu_seconds();
    work();
    best = std::min(best, cpu_seconds() - before);
  }
  return best;
}

}  // namespace

int main(int argc, char** argv) try {
  if (argc < 3) {
    std::fprintf(stderr, "usage: tokenizer_bench MODEL_DIR TEXT_FILE [SECONDS]\n");
    return 2;
  }
  const double budget_s = argc > 3 ? std::stod(argv[3]) : 2;
  std::ifstream in(argv[2], std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
  if (!in || text.empty()) throw plural::InputError(std::string(argv[2]) + ": cannot be read, or empty");
  const double load_start = cpu_seconds();
  const auto tokenizer = plural::Tokenizer::load(argv[1]);
  const double load_s = cpu_seconds() - load_start;
  const std::vector<plural::TokenId> ids = tokenizer.encode(text);
  const double encode_s = fastest_s(budget_s, [&] { return tokenizer.encode(text); });
  // As training reads it: many short texts.
  std::vector<std::string_view> lines;
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find('\n', at), text.size() - 1);
    lines.push_back(std::string_view(text).substr(at, end + 1 - at));
    at = end + 1;
  }
  const double lines_s = fastest_s(budget_s, [&] {
    for (const std::string_view line : lines) tokenizer.encode(line);
  });
  const double decode_s = fastest_s(budget_s, [&] { return tokenizer.decode(ids); });
  const double megabytes = static_cast<double>(text.size()) / 1e6;
  std::printf(
      "{\"name\": \"tokenizer/plural\", \"bytes\": %zu, \"tokens\": %zu, \"load_s\": %.3f, \"encode_mb_per_s\": %.1f, "
      "\"encode_lines_mb_per_s\": %.1f, \"decode_mb_per_s\": %.1f}\n",
      text.size(), ids.size(), load_s, megabytes / encode_s, megabytes / lines_s, megabytes / decode_s);
  return 0;
} catch (const std::exception& error) {
  std::fprintf(stderr, "tokenizer_bench: %s\n", error.what());
  return 1;
}
