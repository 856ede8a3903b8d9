// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
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
    const std::string text{std::istreambuf_iterator<char>(file), {}};
    count += text.find(marker) != std::string::npos;
  }
  return count;
}

/// No process holds `marker` any more. What was killed but is nobody's child may take its time to go on a busy machine.
inline bool gone(const std::string& marker) {
  for (int i = 0; i < 400 && processes_with(marker) > 0; ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(25));
  return processes_with(marker) == 0;
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
