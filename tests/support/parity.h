// SPDX-License-Identifier: Apache-2.0
// Runs a script of tests/parity/ with the tests' Python and reads the JSON that it prints.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <string>

#include "tests/support/catch.h"

inline nlohmann::json run_parity_script(const std::string& script, const std::string& arguments = "") {
  const char *python = std::getenv("PLURAL_TEST_PYTHON"), *source = std::getenv("PLURAL_SOURCE_DIR");
  if (python == nullptr || source == nullptr)
    FAIL("run through ctest: PLURAL_TEST_PYTHON and PLURAL_SOURCE_DIR are not set");
  const std::string command = std::string("'") + python + "' '" + source + "/tests/parity/" + script + "' " + arguments;
  FILE* pipe = ::popen(command.c_str(), "r");
  REQUIRE(pipe != nullptr);
  std::string text;
  char buffer[65536];
  while (const size_t n = std::fread(buffer, 1, sizeof buffer, pipe)) text.append(buffer, n);
  INFO(command);
  REQUIRE(::pclose(pipe) == 0);
  return nlohmann::json::parse(text);
}
