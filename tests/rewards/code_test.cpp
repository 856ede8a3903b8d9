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

TEST_CASE("code: programs that read and print", "[host]") {
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

TEST_CASE("code: functions that are called", "[host]") {
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

TEST_CASE("code: what runs for ever or prints for ever is wrong, not failed", "[host]") {
  if (!usable()) return;
  const Programs programs(kEcho, {{"while True: pass", "while True: print('4')"}});
  const RewardOutput out = programs.score("{time_limit_s: 1, output_kb: 4, fail_value: -1}");
  check_close(Scored::values(out.row), {0});
  CHECK(out.metrics.at("time_outs") == 1);
  CHECK(out.metrics.at("failures") == 0);
}

TEST_CASE("code: no time left is the fail value", "[host]") {
  if (!usable()) return;
  std::stop_source stop;
  stop.request_stop();
  const RewardOutput out = Programs(kEcho, {{kDouble, kTwoPlus}}).score("{fail_value: -0.5}", stop.get_token());
  check_close(Scored::values(out.row), {-0.5});
  CHECK(out.metrics.at("failures") == 2);
  CHECK_FALSE(out.problem.empty());
}

TEST_CASE("code: rows without tests are left out, and bad tests are the data's fault", "[host]") {
  if (!usable()) return;
  CHECK_FALSE(Programs("", {{kDouble}}).score().valid[0].item<bool>());
  CHECK_FALSE(Programs("[]", {{kDouble}}).score().valid[0].item<bool>());
  CHECK(Programs(kEcho, {{kDouble}}).score().valid[0].item<bool>());
  const auto reward = builtin_rewards().make("code");
  CHECK_FALSE(reward->applies_to(Programs("", {}).example));
  CHECK(reward->applies_to(Programs(kEcho, {}).example));
  for (const std::string bad :
       {"{}", "[3]", "[{\"input\": \"1\"}]", "[{\"input\": 1, \"output\": \"1\"}]",
        "[{\"call\": \"f(); import os\", \"output\": 1}]", "[{\"call\": \"f\", \"args\": 3, \"output\": 1}]"}) {
    INFO(bad);
    CHECK_THROWS_WITH(Programs(bad, {{kDouble}}).score(), Catch::Contains("example 'double', field 'tests'"));
  }
}

TEST_CASE("code: what a right program earns at least", "[host]") {
  if (!usable()) return;
  const auto margin = [](const std::string& options, int64_t k) {
    return builtin_rewards().make("code", parse_yaml(options, "options"))->zero_confidence_margin(k, false);
  };
  CHECK(margin("{}", 4) == 0.25);
  CHECK(margin("{combine: any}", 4) == 0);  // another program may have earned it all
  CHECK(margin("{combine: any}", 1) == 1);
  CHECK(margin("{grade: fraction}", 1) == 0);  // a wrong program may fail one test of many
}

TEST_CASE("the matcher code: a program that passes every test is the first gold answer", "[host]") {
  if (!usable()) return;
  const auto matcher = make_matcher("code", parse_yaml("{time_limit_s: 2, parallel: 2}", "matcher"));
  CHECK(matcher->name() == "code");
  Example twice, other;
  twice.id = "twice";
  twice.gold = {{"the reference", {}, 1}, {"another one", {}, 1}};
  twice.extra["tests"] = kEcho;
  other = twice;
  other.extra["tests"] = R"([{"input": "1", "output": "3"}])";  // as many as 2 + 1
  const auto answer = [](const std::string& program) {
    Answer a;
    a.text = program;
    a.normal = normal_form(program);
    return a;
  };
  const std::vector<Answer> answers = {
      answer(kDouble),         answer(kTwoPlus), answer("```python\n" + kDouble + "\n```"),
      answer("the reference"), answer(""),       answer("while True: pass")};
  std::vector<MatchQuestion> questions;
  for (const Answer& a : answers) questions.push_back({&a, &twice});
  questions.push_back({&answers[1], &other});
  const MatchVerdicts verdicts = matcher->match_all(questions);
  CHECK(verdicts.gold == std::vector<int64_t>{0, -1, 0, -1, -1, -1, 0});
  CHECK(verdicts.metrics == std::map<std::string, double>{{"programs", 6}, {"failures", 0}});
  CHECK(verdicts.problem.empty());
  // Programs are compared as text: x + y is not x - y, which have one normal form.
  CHECK(matcher->key(answers[0]) == kDouble);
  CHECK(matcher->key(answers[0]) != matcher->key(answers[1]));
  // Verdicts are remembered: asking for a program that runs for ever takes its two seconds only once.
  CHECK(seconds_of([&] { CHECK(matcher->match_all(questions).gold == verdicts.gold); }) < 1);
  CHECK(matcher->match(answers[0], twice) == 0);
}

TEST_CASE("the matcher code: a deadline for all programs of a batch", "[host]") {
  if (!usable()) return;
  const auto matcher = make_matcher(
      "code", parse_yaml("{time_limit_s: 100, cpu_limit_s: 100, parallel: 1, deadline_s: 1}", "matcher"));
  Example example;
  example.gold = {{"the reference", {}, 1}};
  example.extra["tests"] = kEcho;
  std::vector<Answer> answers(3);
  std::vector<MatchQuestion> questions;
  for (size_t i = 0; i < answers.size(); ++i) {
    answers[i].text = "while True: " + std::string(i + 1, ' ') + "pass";
    questions.push_back({&answers[i], &example});
  }
  MatchVerdicts verdicts;
  CHECK(seconds_of([&] { verdicts = matcher->match_all(questions); }) < 20);
  CHECK(verdicts.gold == std::vector<int64_t>{-1, -1, -1});
  CHECK(verdicts.metrics.at("failures") == 3);
  CHECK_THAT(verdicts.problem, Catch::Contains("deadline_s = 1"));
}

TEST_CASE("the matcher code: data without tests or gold answers, and bad options, are said", "[host]") {
  if (!usable()) return;
  const auto matcher = make_matcher("code");
  Example example;
  example.id = "bare";
  example.gold = {{"x", {}, 1}};
  Answer answer;
  answer.text = answer.normal = kDouble;
  CHECK_THROWS_WITH(matcher->match(answer, example), Catch::Contains("example 'bare'") && Catch::Contains("'tests'"));
  example.extra["tests"] = kEcho;
  example.gold.clear();
  CHECK_THROWS_WITH(matcher->match(answer, example), Catch::Contains("example 'bare'") && Catch::Contains("gold"));
  CHECK_THROWS_WITH(make_matcher("code", parse_yaml("{command: [python3]}", "matcher")), Catch::Contains("below /usr"));
  CHECK_THROWS_WITH(make_matcher("code", parse_yaml("{workers: 1}", "matcher")), Catch::Contains("workers"));
}
