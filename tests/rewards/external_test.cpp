// SPDX-License-Identifier: Apache-2.0
#include <stop_token>
#include <thread>

#include "plural/error.h"
#include "rewards/slow_scoring.h"
#include "tests/external/external_support.h"
#include "tests/rewards/reward_fixture.h"
#include "tests/support/temp_dir.h"

using namespace plural;
using namespace plural::testing;

namespace {

/// A worker that gives each row the number that is its first answer.
const char* const kWorker = R"(
import json, sys, time
for line in sys.stdin:
    request = json.loads(line)
    if "plural_worker" in request:
        print(json.dumps({"plural_worker": 1}), flush=True)
        continue
    results = []
    for item in request["items"]:
        text = item["completion"]
        if "hang" in text: time.sleep(1000)
        if "none" in text: results.append({"valid": False})
        elif "asked" in text: results.append({"value": item["num_answers"]})
        elif "text" in text: results.append({"value": "high"})
        elif "missing" in text: results.append({})
        else:
            number = float(item["answers"][0]["text"])
            assert item["example"]["gold"][0]["answer"] == "cat", item
            assert item["format_ok"] == (len(item["answers"]) == 3)
            results.append({"value": number})
    print(json.dumps({"id": request["id"], "results": results}), flush=True)
)";

std::string options(const std::string& more = "") {
  static const TempDir folder;
  static const auto script = folder.write("worker.py", kWorker);
  return "{command: [" + python() + ", " + script.string() + "], fail_value: 0.25" + more + "}";
}

std::string set_of(const std::string& first) { return write_set({{first, "0.5"}, {"dog", "0.3"}, {"owl", "0.1"}}); }

}  // namespace

TEST_CASE("external: rows get what the worker says") {
  const Scored scored(animals(), {set_of("0.75"), set_of("none"), set_of("0.5")});
  const RewardOutput out = scored.score("external", options());
  check_close(Scored::values(out.row), {0.75, 0.25, 0.5});
  CHECK(Scored::values(out.valid.to(at::kFloat)) == std::vector<double>{1, 0, 1});
  CHECK(out.problem.empty());
  CHECK(out.metrics.at("asked") == 3);
  CHECK(out.metrics.at("failures") == 0);
}

TEST_CASE("external: replies that are no number fail their row, and a crash costs one row") {
  // "no number" makes the worker raise, so it dies.
  const Scored scored(animals(), {set_of("text"), set_of("0.5"), set_of("missing"), set_of("no number"), set_of("1")});
  const RewardOutput out = scored.score("external", options(", workers: 1"));
  check_close(Scored::values(out.row), {0.25, 0.5, 0.25, 0.25, 1});
  CHECK(out.metrics.at("failures") == 3);
  CHECK(out.metrics.at("crashes") == 2);  // in the batch, and alone
  CHECK_FALSE(out.problem.empty());
}

TEST_CASE("external: a hanging worker is killed and its row gets the fail value") {
  const Scored scored(animals(), {set_of("0.5"), set_of("hang")});
  RewardOutput out;
  CHECK(seconds_of([&] { out = scored.score("external", options(", time_limit_s: 2, batch: 1")); }) < 20);
  check_close(Scored::values(out.row), {0.5, 0.25});
  CHECK(out.metrics.at("time_outs") == 1);
  CHECK(children() == 0);
}

TEST_CASE("external: each row says how many answers it was asked for") {
  Scored scored(animals(), {set_of("asked"), set_of("asked")});
  scored.answers.k = at::tensor({3, 2}, at::kLong).to(test_device());
  check_close(Scored::values(scored.score("external", options()).row), {3, 2});
}

TEST_CASE("external: only the named sources are asked") {
  const Scored scored(animals(), {set_of("0.75")});  // the examples of the tests have no source
  const RewardOutput out = scored.score("external", options(", sources: [maths]"));
  CHECK_FALSE(out.valid[0].item<bool>());
  CHECK(out.metrics.at("asked") == 0);
  Example maths, other;
  maths.source = "maths";
  const auto reward = builtin_rewards().make("external", parse_yaml(options(", sources: [maths]"), "options"));
  CHECK(reward->applies_to(maths));
  CHECK_FALSE(reward->applies_to(other));
  CHECK(builtin_rewards().make("external", parse_yaml(options(), "options"))->applies_to(other));
}

TEST_CASE("external: a command is needed, and must work") {
  const Scored scored(animals(), {set_of("1")});
  CHECK_THROWS_AS(scored.score("external"), InputError);
  CHECK_THROWS_WITH(scored.score("external", "{command: [/no/such/worker]}"), Catch::Contains("cannot be used"));
  CHECK_THROWS_WITH(scored.score("external", "{command: [\"true\"]}"), Catch::Contains("exit code 0"));
}

TEST_CASE("the external matcher asks for named sources only, and only what the fallback does not find", "[host]") {
  const ConfigNode config = parse_yaml(
      "{command: [" + python() + ", " + source_dir() + "/tools/math_verify_worker.py], sources: [math], workers: 1}",
      "matcher");
  const auto matcher = make_matcher("external", config);
  Example math, text;
  math.source = "math";
  math.gold = {{"1/2", {}, 1}, {"blue", {}, 1}};
  text = math;
  text.source = "aftermath";
  const auto answer = [](const std::string& words) {
    Answer a;
    a.text = words;
    a.normal = normal_form(words);
    return a;
  };
  const std::vector<Answer> answers = {answer("0.5"), answer("The answer is $\\frac{1}{2}$"), answer("2"),
                                       answer("Blue!"), answer("")};
  std::vector<MatchQuestion> questions;
  for (const Answer& a : answers) questions.push_back({&a, &math});
  for (const Answer& a : answers) questions.push_back({&a, &text});
  const MatchVerdicts verdicts = matcher->match_all(questions);
  CHECK(verdicts.gold == std::vector<int64_t>{0, 0, -1, 1, -1, -1, -1, -1, 1, -1});
  CHECK(verdicts.metrics.at("asked") == 3);
  CHECK(verdicts.metrics.at("failures") == 0);
  CHECK(verdicts.problem.empty());
  CHECK(matcher->match_all(questions).metrics.at("asked") == 0);  // verdicts are remembered
  CHECK(matcher->match(answers[0], math) == 0);
}

TEST_CASE("the external matcher shows workers bare articles, and counts the gold answers that only they can match",
          "[host]") {
  const TempDir folder;
  const auto script = folder.write("worker.py", R"(
import json, sys
for line in sys.stdin:
    request = json.loads(line)
    reply = {"plural_worker": 1}
    if "items" in request:
        found = [[i for i, gold in enumerate(item["gold"]) if item["candidate"] in gold] for item in request["items"]]
        reply = {"id": request["id"], "results": [{"match": indices[-1] if indices else -1} for indices in found]}
    print(json.dumps(reply), flush=True)
)");
  const auto matcher = make_matcher(
      "external",
      parse_yaml("{command: [" + python() + ", " + script.string() + "], sources: [quiz], workers: 1}", "matcher"));
  Example quiz;
  quiz.source = "quiz";
  quiz.gold = {{"A", {}, 1}, {"B", {}, 1}, {"A", {}, 1}};
  Example text = quiz;
  text.source = "";
  const std::string answers = "<answer1>A</answer1><answer2>a</answer2><answer3>B</answer3><answer4>A</answer4>";
  const CompletionView views[] = {{&quiz, answers, {}, 4}, {&text, answers, {}, 4}};
  const AnswerBatch batch = build_answer_batch(views, *make_answer_format("compact"), *matcher, nullptr);
  // The worker names the last of equal gold answers; it counts as the first.
  CHECK(at::equal(batch.match, at::tensor({0, -1, 1, 0, -1, -1, 1, -1}).view({2, 4}).to(at::kLong)));
  CHECK(at::equal(batch.key, at::tensor({0, -1, 1, 0, -1, -1, 0, -1}).view({2, 4}).to(at::kLong)));
  CHECK(at::equal(batch.gold_count, at::tensor({2, 1}).to(at::kLong)));
  CHECK(batch.match_metrics.at("asked") == 2);  // A and a
}

namespace {

/// Options of a matcher whose worker takes every question and answers none.
ConfigNode hanging_matcher(const TempDir& folder, const std::string& more = "") {
  const auto script = folder.write("worker.py", R"(
import json, sys, time
sys.stdin.readline()
print(json.dumps({"plural_worker": 1}), flush=True)
time.sleep(1000)
)");
  return parse_yaml("{command: [" + python() + ", " + script.string() +
                        "], sources: [maths], workers: 1, batch: 1, time_limit_s: 600" + more + "}",
                    "matcher");
}

/// "cat" is a gold answer by its text, the others are for the worker.
struct MathsAnswers {
  MathsAnswers() {
    example.source = "maths";
    example.gold = {{"cat", {}, 1}};
    answers.resize(4);
    for (size_t i = 0; i < answers.size(); ++i) {
      answers[i].text = answers[i].normal = i == 0 ? "cat" : "answer " + std::to_string(i);
      questions.push_back({&answers[i], &example});
    }
  }
  Example example;
  std::vector<Answer> answers;
  std::vector<MatchQuestion> questions;
};

}  // namespace

TEST_CASE("a matcher's worker that hangs is given its deadline, and a request to stop ends it sooner", "[host]") {
  const TempDir folder;
  const MathsAnswers asked;
  MatchVerdicts verdicts;
  const auto bounded = make_matcher("external", hanging_matcher(folder, ", deadline_s: 0.5"));
  CHECK(seconds_of([&] { verdicts = bounded->match_all(asked.questions); }) < 10);
  CHECK(verdicts.gold == std::vector<int64_t>{0, -1, -1, -1});
  CHECK(verdicts.metrics.at("failures") == 3);
  CHECK_THAT(verdicts.problem, Catch::Contains("deadline_s = 0.5"));

  const auto patient = make_matcher("external", hanging_matcher(folder));
  std::stop_source stop;
  std::jthread later([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(300));
    stop.request_stop();
  });
  CHECK(seconds_of([&] { verdicts = patient->match_all(asked.questions, stop.get_token()); }) < 10);
  CHECK(verdicts.metrics.at("failures") == 3);
  // A batch of such verdicts is of no use.
  const CompletionView view{&asked.example, "<answer1>dog</answer1>", {}, 1};
  CHECK_THROWS_AS(build_answer_batch({&view, 1}, *make_answer_format("compact"), *patient, nullptr, at::kCPU,
                                     at::kFloat, stop.get_token()),
                  Interrupted);
  CHECK_THROWS_AS(make_matcher("external", hanging_matcher(folder, ", deadline_s: 0")), InputError);
  CHECK(children() == 0);
}

TEST_CASE("a slow reward keeps its deadline when the matcher's worker hangs", "[host]") {
  const TempDir folder;
  const auto matcher = make_matcher("external", hanging_matcher(folder));
  const auto format = make_answer_format("compact");
  Example maths;
  maths.source = "maths";
  maths.gold = {{"cat", {}, 1}};
  Scored scored(animals(), {write_set({{"dog", "0.5"}}), write_set({{"owl", "0.5"}})});
  RewardStack stack;
  stack.add(builtin_rewards().make("external", parse_yaml(options(), "options")), 1.0, "", 0.3);
  const auto parse = [&](std::span<const CompletionView> views, const std::stop_token& stop) {
    return build_answer_batch(views, *format, *matcher, nullptr, at::kCPU, at::kFloat, stop);
  };
  SlowScoring slow(stack, parse, SlowScoring::Step(scored.input()));
  const std::span<const std::string> texts = scored.input().completions;
  slow.add(0, maths, 3, {texts.begin(), texts.end()});
  RewardStack::Result result;
  CHECK(seconds_of([&] { result = stack.score(scored.input(), &slow); }) < 10);
  check_close(Scored::values(result.total), {0.25, 0.25});
  CHECK(result.metrics.at("reward/external/failed_rows") == 2);
  REQUIRE(result.problems.size() == 1);
  CHECK_THAT(result.problems[0], Catch::Contains("deadline_s = 0.3"));
  CHECK_FALSE(stack.terms()[0].stuck->load());  // it was the matcher, which has returned
}

TEST_CASE("a matcher's worker that fails is no match, and is counted", "[host]") {
  const ConfigNode config = parse_yaml(
      "{command: [" + python() + ", " + source_dir() + "/tests/external/worker.py], sources: [math], workers: 1}",
      "matcher");
  const auto matcher = make_matcher("external", config);
  Example example;
  example.source = "math";
  example.gold = {{"cat", {}, 1}};
  Answer answer;
  answer.text = answer.normal = "dog";
  const MatchQuestion question{&answer, &example};
  const MatchVerdicts verdicts = matcher->match_all({&question, 1});  // replies without "match"
  CHECK(verdicts.gold == std::vector<int64_t>{-1});
  CHECK(verdicts.metrics.at("failures") == 1);
  CHECK_THAT(verdicts.problem, Catch::Contains("expected {\"match\": -1 to 0}"));
  CHECK_THROWS_AS(make_matcher("external"), InputError);
  CHECK_THROWS_WITH(make_matcher("alias", config), Catch::Contains("has no option 'command'"));
}
