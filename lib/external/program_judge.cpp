// SPDX-License-Identifier: Apache-2.0
#include "lib/external/program_judge.h"

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "lib/core/format.h"
#include "lib/core/json_depth.h"
#include "plural/error.h"

namespace plural::external {
namespace {

using Json = nlohmann::json;

bool is_dotted_name(const std::string& text) {
  const auto plain = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '.';
  };
  return !text.empty() && !(text[0] >= '0' && text[0] <= '9') && std::all_of(text.begin(), text.end(), plain);
}

ProgramTest read_test(const Json& json) {
  const auto refuse = [&](const std::string& what) -> void {
    throw InputError(fmt::format("{}, found {}", what, json.dump().substr(0, 200)));
  };
  ProgramTest test;
  if (!json.is_object() || !json.contains("output"))
    refuse("a test is {\"input\", \"output\"} or {\"call\", \"args\", \"output\"}");
  if (json.contains("call")) {
    const Json args = json.value("args", Json::array());
    if (!json["call"].is_string() || !is_dotted_name(json["call"].get<std::string>()) || !args.is_array())
      refuse("\"call\" is the name of a function and \"args\" a list");
    test.call = true;
    test.value = json["output"];
    // The arguments are JSON inside a string literal, which Python and JSON write alike.
    test.suffix = fmt::format("\n\nimport json as _json\nprint('\\n' + _json.dumps({}(*_json.loads({}))))\n",
                              json["call"].get<std::string>(), Json(args.dump()).dump());
  } else {
    if (!json["output"].is_string() || !json.value("input", Json("")).is_string())
      refuse("\"input\" and \"output\" are texts");
    test.input = json.value("input", "");
    test.output = json["output"].get<std::string>();
  }
  return test;
}

/// Lines without spaces at their ends, and without empty lines at the end.
std::string tidy(std::string_view text) {
  std::string out;
  for (size_t at = 0; at <= text.size();) {
    const size_t end = std::min(text.find('\n', at), text.size());
    const std::string_view line = text.substr(at, end - at);
    out.append(line.substr(0, line.find_last_not_of(" \t\r") + 1));
    out.push_back('\n');
    at = end + 1;
  }
  out.erase(out.find_last_not_of('\n') + 1);
  return out;
}

/// Equal JSON; numbers may differ by a relative 1e-9.
bool same_value(const Json& a, const Json& b) {
  if (a.is_number() && b.is_number()) {
    if (a.is_number_integer() && b.is_number_integer()) return a == b;
    const double x = a.get<double>(), y = b.get<double>();
    return std::abs(x - y) <= 1e-9 * std::max(std::abs(x), std::abs(y));
  }
  if (a.type() != b.type() || !a.is_structured()) return a == b;
  if (a.size() != b.size()) return false;
  if (a.is_array()) return std::equal(a.begin(), a.end(), b.begin(), same_value);
  for (const auto& [key, value] : a.items())
    if (!b.contains(key) || !same_value(value, b[key])) return false;
  return true;
}

bool passes(const ProgramTest& test, const SandboxResult& result) {
  if (result.end != SandboxResult::End::kExit || !result.status.success()) return false;
  if (!test.call) return tidy(result.output) == tidy(test.output);
  const std::string said = tidy(result.output);
  const std::string last = said.substr(said.rfind('\n') + 1);
  if (detail::json_too_deep(last)) return false;
  const Json value = Json::parse(last, nullptr, false);
  return !value.is_discarded() && same_value(value, test.value);
}

}  // namespace

std::string program_of(const std::string& answer) {
  const size_t open = answer.find("```");
  if (open == std::string::npos) return answer;
  const size_t begin = answer.find('\n', open);
  if (begin == std::string::npos) return answer;
  return answer.substr(begin + 1, answer.find("```", begin) - begin - 1);
}

ProgramJudge::ProgramJudge(ProgramOptions options) : options_(std::move(options)), sandbox_(options_.limits) {
  const std::string program = options_.command.empty() ? "" : options_.command[0];
  if (!program.starts_with("/usr/") || !std::filesystem::exists(program))
    throw InputError(
        fmt::format("command: the first word must be a program below /usr, which is all that a sandbox sees; "
                    "found '{}'",
                    program));
}

std::vector<ProgramTest> ProgramJudge::tests_of(const Example& example) const {
  const auto found = example.extra.find(options_.tests);
  if (found == example.extra.end()) return {};
  try {
    const Json list = Json::parse(found->second);
    if (!list.is_array()) throw InputError("expected a list of tests");
    std::vector<ProgramTest> tests;
    for (const Json& test : list) tests.push_back(read_test(test));
    return tests;
  } catch (const InputError& error) {
    throw InputError(fmt::format("example '{}', field '{}': {}", example.id, options_.tests, error.what()));
  }
}

ProgramVerdict ProgramJudge::judge(const std::string& program, const std::vector<ProgramTest>& tests, bool all,
                                   const std::stop_token& stop) const {
  ProgramVerdict verdict;
  try {
    for (const ProgramTest& test : tests) {
      const std::string text = program + test.suffix;
      const SandboxResult result = sandbox_.run(options_.command, {{kProgramFile, text}}, test.input, stop);
      if (result.end == SandboxResult::End::kStopped) {
        verdict.problem = "the time for the whole batch was over";
        break;
      }
      ++verdict.runs;
      verdict.time_outs += result.end == SandboxResult::End::kTimeOut;
      if (passes(test, result))
        ++verdict.passed;
      else if (!all)
        break;
    }
  } catch (const SystemError& error) {
    verdict.problem = error.what();
  }
  return verdict;
}

}  // namespace plural::external
