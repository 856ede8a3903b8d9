// SPDX-License-Identifier: Apache-2.0
// sandbox_bench [RUNS]: programs a minute through the sandbox of the reward `code`, as JSON lines: a Python program
// that reads a number and prints another, at 1, 2, 4 and 8 at a time.
#include <chrono>
#include <cstdio>
#include <string>

#include "lib/external/parallel.h"
#include "lib/external/sandbox.h"
#include "plural/error.h"

using namespace plural::external;

int main(int argc, char** argv) try {
  const int64_t runs = argc > 1 ? std::stoll(argv[1]) : 400;
  const Sandbox sandbox({});
  for (const int64_t threads : {1, 2, 4, 8}) {
    const auto start = std::chrono::steady_clock::now();
    for_each_parallel(runs, threads, [&](int64_t i) {
      const SandboxResult result = sandbox.run({"/usr/bin/python3", "-I", "/program"},
                                               {{"/program", "print(2 * int(input()))"}}, std::to_string(i));
      if (result.output != std::to_string(2 * i) + "\n")
        throw plural::SystemError("a program failed: " + result.output);
    });
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    std::printf("{\"at_once\": %lld, \"programs_per_minute\": %.0f}\n", static_cast<long long>(threads),
                60 * static_cast<double>(runs) / seconds);
  }
} catch (const std::exception& error) {
  std::fprintf(stderr, "sandbox_bench: %s\n", error.what());
  return 1;
}
