// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <sstream>
#include <string>
#include <thread>

#include "tests/support/catch.h"

namespace plural::testing {

inline std::string python() {
  const char* path = std::getenv("PLURAL_TEST_PYTHON");
  if (path == nullptr) FAIL("run through ctest: PLURAL_TEST_PYTHON is not set");
  return path;
}

inline std::string source_dir() {
  const char* path = std::getenv("PLURAL_SOURCE_DIR");
  if (path == nullptr) FAIL("run through ctest: PLURAL_SOURCE_DIR is not set");
  return path;
}

/// Open descriptors of this process.
inline int64_t open_descriptors() { return std::distance(std::filesystem::directory_iterator("/proc/self/fd"), {}); }

/// Processes whose command line holds `marker`; zombies have none and are counted by children().
inline int64_t processes_with(const std::string& marker) {
  int64_t count = 0;
  for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
    std::ifstream file(entry.path() / "cmdline", std::ios::binary);
    std::ostringstream text;
    text << file.rdbuf();  // of a process that ends meanwhile: nothing, where an iterator of the buffer would throw
    count += text.str().find(marker) != std::string::npos;
  }
  return count;
}

/// A number that marks the command lines of this run of the tests: another run beside it has another process id.
inline std::string own_marker(int number) { return std::to_string(number) + "." + std::to_string(::getpid()); }

/// Waits until no command line holds `marker`: a process that was killed takes a moment to go. False after 10 s.
inline bool all_gone(const std::string& marker) {
  for (int tenths = 0; tenths < 100; ++tenths) {
    if (processes_with(marker) == 0) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
  return false;
}

/// Children of this process, zombies included.
inline int64_t children() {
  int64_t count = 0;
  for (const auto& task : std::filesystem::directory_iterator("/proc/self/task")) {
    std::ifstream file(task.path() / "children");
    for (int64_t pid = 0; file >> pid;) ++count;
  }
  return count;
}

template <class Call>
double seconds_of(Call&& call) {
  const auto start = std::chrono::steady_clock::now();
  call();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace plural::testing
