// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <unordered_map>

#include "lib/core/format.h"
#include "lib/core/json_depth.h"
#include "lib/external/parallel.h"
#include "lib/external/sandbox.h"
#include "plural/error.h"
#include "rewards/outside.h"
#include "rewards/reward_support.h"

namespace plural {
namespace {

using Json = nlohmann::json;
using external::SandboxResult;

constexpr const char* kProgram = "/program";

/// One test: what goes in, and what must come out. The expected output never enters the sandbox.
struct Test {
  std::string input;   ///< standard input
  std::string suffix;  ///< a call of the tested function, appended to the program
  bool call = false;
  std::string output;  ///< expected standard output, for tests by input
  Json value;          ///< expected return value, for tests by call
};

bool is_dotted_name(const std::string& text) {
  const auto plain = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '.';
  };
  return !text.empty() && !(text[0] >= '0' && text[0] <= '9') && std::all_of(text.begin(), text.end(), plain);
}

Test read_test(const Json& json) {
  const auto refuse = [&](const std::string& what) -> void {
    throw InputError(fmt::format("{}, found {}", what, json.dump().substr(0, 200)));
  };
  Test test;
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

bool passes(const Test& test, const SandboxResult& result) {
  if (result.end != SandboxResult::End::kExit || !result.status.success()) return false;
  if (!test.call) return tidy(result.output) == tidy(test.output);
  const std::string said = tidy(result.output);
  const std::string last = said.substr(said.rfind('\n') + 1);
  if (detail::json_too_deep(last)) return false;
  const Json value = Json::parse(last, nullptr, false);
  return !value.is_discarded() && same_value(value, test.value);
}

/// What a model wrote as an answer, without the fence of a Markdown code block around it.
std::string program_of(const std::string& answer) {
  const size_t open = answer.find("```");
  if (open == std::string::npos) return answer;
  const size_t begin = answer.find('\n', open);
  if (begin == std::string::npos) return answer;
  return answer.substr(begin + 1, answer.find("```", begin) - begin - 1);
}

/// Each answer is a program; its value says how many of the example's tests it passes.
class Code final : public Reward {
 public:
  struct Options {
    std::vector<std::string> command = {"/usr/bin/python3", "-I", kProgram};
    std::string tests = "tests";
    std::string grade = "all";
    int64_t parallel = 4;
    rewards::CombineOptions combine;
    external::SandboxLimits limits;
    template <class V>
    void fields(V& v) {
      v.field("command", command, any_value(), "runs the program, which is the file /program; first word below /usr");
      v.field("tests", tests, any_value(), "field of the example that holds the list of tests");
      v.field("grade", grade, one_of({"all", "fraction"}), "all: 1 if every test passes; fraction: passed / tests");
      v.field("parallel", parallel, between(1, 256), "programs run at once");
      combine.fields(v);
      limits.fields(v);
    }
  };

  explicit Code(Options options) : options_(std::move(options)), sandbox_(options_.limits) {
    const std::string program = options_.command.empty() ? "" : options_.command[0];
    if (!program.starts_with("/usr/") || !std::filesystem::exists(program))
      throw InputError(
          fmt::format("command: the first word must be a program below /usr, which is all that a sandbox sees; "
                      "found '{}'",
                      program));
  }
  std::string name() const override { return "code"; }
  std::string formula() const override {
    const std::string value = options_.grade == "all" ? "1 if a program passes every test" : "tests passed / tests";
    return options_.combine.combine == "mean" ? "sum over different programs (" + value + ") / K" : "best of " + value;
  }
  bool slow() const override { return true; }
  double fail_value() const override { return options_.combine.fail_value; }

  RewardOutput score(const RewardInput& input) const override {
    const AnswerBatch& answers = input.answers;
    std::unordered_map<const Example*, std::vector<Test>> tests;
    Tensor valid = at::zeros({answers.rows}, at::kBool);
    std::map<std::pair<const Example*, std::string>, Job> jobs;  // the same program is run once
    std::vector<rewards::Slot> slots;
    std::vector<const Job*> job_of_slot;
    for (int64_t b = 0; b < answers.rows; ++b) {
      const Example* example = input.examples[static_cast<size_t>(b)];
      const auto found = tests.find(example);
      const std::vector<Test>& own = found != tests.end() ? found->second : tests[example] = tests_of(*example);
      if (own.empty()) continue;
      valid[b] = true;
      const std::vector<Answer>& list = input.answers.sets[static_cast<size_t>(b)].answers;
      std::vector<const Job*> seen;
      for (size_t k = 0; k < list.size(); ++k) {
        std::string program = program_of(list[k].text);
        if (program.empty()) continue;
        Job& job = jobs[{example, std::move(program)}];
        job.tests = &own;
        if (std::find(seen.begin(), seen.end(), &job) != seen.end()) continue;  // written twice, paid once
        seen.push_back(&job);
        slots.push_back({b, static_cast<int64_t>(k)});
        job_of_slot.push_back(&job);
      }
    }
    std::vector<std::pair<const std::string*, Job*>> work;
    for (auto& [key, job] : jobs) work.emplace_back(&key.second, &job);
    external::for_each_parallel(static_cast<int64_t>(work.size()), options_.parallel, [&](int64_t i) {
      run(*work[static_cast<size_t>(i)].first, *work[static_cast<size_t>(i)].second, input.stop);
    });

    std::vector<double> values;
    for (const Job* job : job_of_slot)
      values.push_back(job->problem.empty() ? job->value : options_.combine.fail_value);
    RewardOutput out = rewards::combine_answers(answers, slots, values, options_.combine);
    out.valid = valid.to(answers.k.device());
    for (const auto& [program, job] : work) {
      out.metrics["programs"] += 1;
      out.metrics["runs"] += static_cast<double>(job->runs);
      out.metrics["time_outs"] += static_cast<double>(job->time_outs);
      out.metrics["failures"] += job->problem.empty() ? 0 : 1;
      if (out.problem.empty()) out.problem = job->problem;
    }
    return out;
  }

 private:
  struct Job {
    const std::vector<Test>* tests = nullptr;
    double value = 0;
    int64_t runs = 0;
    int64_t time_outs = 0;
    std::string problem;  // why it could not be judged
  };

  std::vector<Test> tests_of(const Example& example) const {
    const auto found = example.extra.find(options_.tests);
    if (found == example.extra.end()) return {};
    try {
      const Json list = Json::parse(found->second);
      if (!list.is_array()) throw InputError("expected a list of tests");
      std::vector<Test> tests;
      for (const Json& test : list) tests.push_back(read_test(test));
      return tests;
    } catch (const InputError& error) {
      throw InputError(fmt::format("example '{}', field '{}': {}", example.id, options_.tests, error.what()));
    }
  }

  void run(const std::string& program, Job& job, const std::stop_token& stop) const {
    int64_t passed = 0;
    try {
      for (const Test& test : *job.tests) {
        const std::string text = program + test.suffix;
        const SandboxResult result = sandbox_.run(options_.command, {{kProgram, text}}, test.input, stop);
        if (result.end == SandboxResult::End::kStopped) {
          job.problem = "the time for the whole batch was over";
          return;
        }
        ++job.runs;
        job.time_outs += result.end == SandboxResult::End::kTimeOut;
        if (passes(test, result))
          ++passed;
        else if (options_.grade == "all")
          return;
      }
    } catch (const SystemError& error) {
      job.problem = error.what();
      return;
    }
    job.value = static_cast<double>(passed) / static_cast<double>(job.tests->size());
  }

  Options options_;
  external::Sandbox sandbox_;
};

}  // namespace

void register_code(Registry<Reward>& registry) {
  add_reward<Code>(registry, "code", "programs that pass tests, run in a sandbox");
}

}  // namespace plural
