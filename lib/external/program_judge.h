// SPDX-License-Identifier: Apache-2.0
// Programs that are right when they pass an example's tests, each run in a sandbox (docs/rewards/code.md).
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "lib/external/sandbox.h"
#include "plural/config.h"
#include "plural/dataset.h"

namespace plural::external {

inline constexpr const char* kProgramFile = "/program";

struct ProgramOptions {
  std::vector<std::string> command = {"/usr/bin/python3", "-I", kProgramFile};
  std::string tests = "tests";
  int64_t parallel = 4;
  SandboxLimits limits;

  template <class V>
  void fields(V& v) {
    v.field("command", command, any_value(), "runs the program, which is the file /program; first word below /usr");
    v.field("tests", tests, any_value(), "field of the example that holds the list of tests");
    v.field("parallel", parallel, between(1, 256), "programs run at once");
    limits.fields(v);
  }
};

/// What goes in, and what must come out. The expected output never enters the sandbox.
struct ProgramTest {
  std::string input;   ///< standard input
  std::string suffix;  ///< a call of the tested function, appended to the program
  bool call = false;
  std::string output;    ///< expected standard output, for tests by input
  nlohmann::json value;  ///< expected return value, for tests by call
};

struct ProgramVerdict {
  int64_t passed = 0;  ///< tests
  int64_t runs = 0;    ///< tests that were run
  int64_t time_outs = 0;
  std::string problem;  ///< why it could not be judged; "" when it was
};

/// What a model wrote as an answer, without the fence of a Markdown code block around it.
std::string program_of(const std::string& answer);

/// Thread-safe.
class ProgramJudge {
 public:
  /// Throws InputError where the command cannot be run in a sandbox, or sandboxes cannot be used.
  explicit ProgramJudge(ProgramOptions options);
  /// Those of an example; none when it lacks the field. Throws InputError naming the example and the field.
  std::vector<ProgramTest> tests_of(const Example& example) const;
  /// Runs the tests in order. `all`: every test; else only up to the first that fails.
  ProgramVerdict judge(const std::string& program, const std::vector<ProgramTest>& tests, bool all,
                       const std::stop_token& stop = {}) const;

 private:
  ProgramOptions options_;
  Sandbox sandbox_;
};

}  // namespace plural::external
