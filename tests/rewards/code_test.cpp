// SPDX-License-Identifier: Apache-2.0
#include "lib/external/sandbox.h"
#include "tests/external/external_support.h"
#include "tests/rewards/reward_fixture.h"

using namespace plural;
using namespace plural::testing;

namespace {

bool usable() {
  static const std::string problem = external::Sandbox::problem();
  if (!problem.empty()) WARN("skipped: " << problem);
  return problem.empty();
}

/// Answer batches of programs for one example with `tests`.
struct Programs {
  Programs(const std::string& tests, std::vector<std::vector<std::string>> rows, int64_t k = 2) {
    example.id = "double";
    if (!tests.empty()) example.extra["tests"] = tests;
    for (const auto& programs : rows) {
      std::vector<Pair> pairs;
      for (const std::string& program : programs) pairs.emplace_back(program, "0.5");
      texts.push_back(write_set(pairs));
    }
    std::vector<CompletionView> views;
    for (const std::string& text : texts) views.push_back({&example, text, {}, k});
    examples.assign(texts.size(), &example);
    answers = build_answer_batch(views, *make_answer_format("compact"), *make_matcher("alias"), nullptr, test_device());
  }
  RewardOutput score(const std::string& options = "{}", std::stop_token stop = {}) const {
    return builtin_rewards()
        .make("code", parse_yaml(options, "options"))
        ->score({.answers = answers, .examples = examples, .completions = texts, .stop = stop});
  }
  std::vector<double> rows(const std::string& options = "{}") const { return Scored::values(score(options).row); }

  Example example;
  std::vector<std::string> texts;
  std::vector<const Example*> examples;
  AnswerBatch answers;
};

const std::string kEcho = R"([{"input": "2\n", "output": "4"}, {"input": "5", "output": "10\n"}])";
const std::string kDouble = "print(2 * int(input()))";
const std::string kTwoPlus = "print(2 + int(input()))";  // right for 2, wrong for 5

}  // namespace

TEST_CASE("code: programs that read and print") {
  if (!usable()) return;
  const Programs programs(kEcho, {{kDouble, kTwoPlus}, {kDouble, kDouble}, {"syntax error(", "1/0"}, {}});
  // A program written twice is paid once.
  check_close(programs.rows(), {0.5, 0.5, 0, 0});
  check_close(programs.rows("{grade: fraction}"), {0.75, 0.5, 0, 0});
  check_close(programs.rows("{grade: fraction, combine: any}"), {1, 1, 0, 0});
  const RewardOutput out = programs.score();
  CHECK(out.metrics.at("programs") == 4);
  CHECK(out.metrics.at("runs") == 2 + 2 + 1 + 1);  // grade all stops at the first test that fails
  CHECK(out.metrics.at("failures") == 0);
}

TEST_CASE("code: functions that are called") {
  if (!usable()) return;
  const std::string tests = R"([{"call": "f", "args": [2, "aé\"b"], "output": {"n": 2.0000000000001, "s": "aé\"b"}},
                                {"call": "f", "args": [3, ""], "output": {"n": 3, "s": ""}}])";
  const std::string good = "def f(n, s):\n  print('noise')\n  return {'n': n, 's': s}";
  const Programs programs(tests, {{"```python\n" + good + "\n```", "def f(n, s): return [n, s]"}, {good, "f = 3"}});
  check_close(programs.rows(), {0.5, 0.5});
  // Leaving early with success is no pass: the expected value is not in the sandbox, and must be printed.
  const Programs cheats(tests, {{"import sys\nsys.exit(0)", "import os\nos._exit(0)"}});
  check_close(cheats.rows("{grade: fraction, combine: any}"), {0});
}

TEST_CASE("code: what runs for ever or prints for ever is wrong, not failed") {
  if (!usable()) return;
  const Programs programs(kEcho, {{"while True: pass", "while True: print('4')"}});
  const RewardOutput out = programs.score("{time_limit_s: 1, output_kb: 4, fail_value: -1}");
  check_close(Scored::values(out.row), {0});
  CHECK(out.metrics.at("time_outs") == 1);
  CHECK(out.metrics.at("failures") == 0);
}

TEST_CASE("code: no time left is the fail value") {
  if (!usable()) return;
  std::stop_source stop;
  stop.request_stop();
  const RewardOutput out = Programs(kEcho, {{kDouble, kTwoPlus}}).score("{fail_value: -0.5}", stop.get_token());
  check_close(Scored::values(out.row), {-0.5});
  CHECK(out.metrics.at("failures") == 2);
  CHECK_FALSE(out.problem.empty());
}

TEST_CASE("code: rows without tests are left out, and bad tests are the data's fault") {
  if (!usable()) return;
  CHECK_FALSE(Programs("", {{kDouble}}).score().valid[0].item<bool>());
  CHECK_FALSE(Programs("[]", {{kDouble}}).score().valid[0].item<bool>());
  CHECK(Programs(kEcho, {{kDouble}}).score().valid[0].item<bool>());
  for (const std::string bad :
       {"{}", "[3]", "[{\"input\": \"1\"}]", "[{\"input\": 1, \"output\": \"1\"}]",
        "[{\"call\": \"f(); import os\", \"output\": 1}]", "[{\"call\": \"f\", \"args\": 3, \"output\": 1}]"}) {
    INFO(bad);
    CHECK_THROWS_WITH(Programs(bad, {{kDouble}}).score(), Catch::Contains("example 'double', field 'tests'"));
  }
}
