// SPDX-License-Identifier: Apache-2.0
#include <nlohmann/json.hpp>
#include <stop_token>
#include <thread>

#include "lib/external/subprocess.h"
#include "tests/external/external_support.h"
#include "tests/rewards/reward_fixture.h"
#include "tests/support/temp_dir.h"

using namespace plural;
using namespace plural::testing;

namespace {

/// The stub server of tests/support, for as long as this lives.
class Stub {
 public:
  Stub() : server_({{python(), source_dir() + "/tests/support/judge_stub.py"}}) {
    REQUIRE(external::exchange(server_, {"", false, true, 100, external::after_s(60), {}}, &port_) ==
            external::ExchangeEnd::kDone);
  }
  /// Options of a judge at this server whose message is the answer alone.
  std::string options(const std::string& more = "") const { return shared("{answer}", ", fail_value: 0.25" + more); }
  /// The matcher that asks this server.
  std::unique_ptr<Matcher> matcher(const std::string& more = "", const std::string& prompt = "{answer}",
                                   const VariableLookup& variables = {}) const {
    return make_matcher("judge", parse_yaml(shared(prompt, more), "matcher"), variables);
  }
  nlohmann::json stats() const {
    external::Subprocess get(
        {{python(), "-c",
          "import urllib.request as u; print(u.build_opener(u.ProxyHandler({})).open('http://127.0.0.1:" + port_ +
              "/stats').read().decode())"},
         true,
         {}});
    std::string text;
    external::exchange(get, {"", true, false, 1 << 20, external::after_s(60), {}}, &text);
    return nlohmann::json::parse(text);
  }
  void stop() { server_.kill(); }

 private:
  std::string shared(const std::string& prompt, const std::string& more) const {
    return "{url: \"http://127.0.0.1:" + port_ + "/v1/chat/completions\", model: m, prompt: \"" + prompt +
           "\", backoff_s: 0.05" + more + "}";
  }
  external::Subprocess server_;
  std::string port_;
};

Scored one_row(const std::vector<std::string>& answers) {
  std::vector<Pair> pairs;
  for (const std::string& answer : answers) pairs.emplace_back(answer, "0.1");
  return Scored(animals(), {write_set(pairs)}, static_cast<int64_t>(answers.size()));
}

}  // namespace

TEST_CASE("judge: yes and no, each different answer once") {
  const Stub stub;
  const Scored scored = one_row({"cat [say YES, it is]", "cow [say No.]", "COW [say no.]", "dog [say **yes**]"});
  const RewardOutput out = scored.score("judge", stub.options());
  check_close(Scored::values(out.row), {0.5});
  check_close(scored.rows("judge", stub.options(", combine: any")), {1});
  CHECK(out.metrics.at("requests") == 3);
  CHECK(out.metrics.at("failures") == 0);
  CHECK(out.problem.empty());
}

TEST_CASE("judge: an answer without a normal form is shown as it is written", "[host]") {
  const Stub stub;  // says yes to what does not ask for another reply
  const Scored scored = one_row({"A", "cow [say no]", "a", "A", " "});
  const RewardOutput out = scored.score("judge", stub.options());
  check_close(Scored::values(out.row), {2.0 / 5});
  CHECK(out.metrics.at("requests") == 3);
}

TEST_CASE("judge: the prompt is filled in once, and what a model wrote is not looked into", "[host]") {
  const Stub stub;
  const Scored scored(animals(), {write_set({{"{gold} [say no]", "0.5"}})}, 1);
  scored.score("judge", stub.options(", system: strict, max_tokens: 3"));
  const auto last = stub.stats()["last"];
  CHECK(last["messages"][0]["content"] == "strict");
  CHECK(last["messages"][1]["content"] == "{gold} [say no]");
  CHECK(last["max_tokens"] == 3);
  CHECK(last["model"] == "m");
  std::string with_gold = stub.options();
  with_gold.replace(with_gold.find("{answer}"), 8, "{question}|{gold}|{completion}");
  scored.score("judge", with_gold);
  CHECK(stub.stats()["last"]["messages"][0]["content"] ==
        "|cat; dog; owl|<answer1>{gold} [say no]</answer1><confidence1>0.5</confidence1>");
}

TEST_CASE("judge: grades", "[host]") {
  const Stub stub;
  const auto grade = [&](const std::string& reply) {
    return one_row({"[say " + reply + "]"}).rows("judge", stub.options(", grading: graded, scale: 10"))[0];
  };
  CHECK(grade("7") == Approx(0.7));
  CHECK(grade("Grade: 8.5.") == Approx(0.85));
  CHECK(grade("0") == Approx(0));
  CHECK(grade("11") == Approx(0.25));  // outside the scale: a failure
  CHECK(grade("-3") == Approx(0.25));
  CHECK(grade("ten") == Approx(0.25));
}

TEST_CASE("judge: a whole completion", "[host]") {
  const Stub stub;
  const Scored scored(animals(), {"free text [say yes]", "other text [say no]", ""});
  std::string options = stub.options(", unit: completion");
  options.replace(options.find("{answer}"), 8, "{completion}");
  const RewardOutput out = scored.score("judge", options);
  check_close(Scored::values(out.row), {1, 0, 1});
  CHECK_FALSE(out.per_answer.defined());
}

TEST_CASE("judge: busy servers are asked again, later and later", "[host]") {
  const Stub stub;
  const RewardOutput out = one_row({"a [fail 429 2]", "b [fail 500 1]", "c [fail 503 9]", "d [fail 400 9]"})
                               .score("judge", stub.options(", retries: 2"));
  check_close(Scored::values(out.row), {(1 + 1 + 0.25 + 0.25) / 4});
  CHECK(out.metrics.at("requests") == 3 + 2 + 3 + 1);  // a 400 is not asked again
  CHECK(out.metrics.at("retries") == 2 + 1 + 2);
  CHECK(out.metrics.at("failures") == 2);
  CHECK_THAT(out.problem, Catch::Contains("HTTP status 503: busy"));
}

TEST_CASE("judge: the server says how long to wait", "[host]") {
  const Stub stub;
  const double seconds = seconds_of(
      [&] { check_close(one_row({"a [fail 429 1] [after 1]"}).rows("judge", stub.options()), {1}); });
  CHECK(seconds >= 1.0);
}

TEST_CASE("judge: silence, nonsense and no server are failures", "[host]") {
  Stub stub;
  const RewardOutput out = one_row({"a [sleep 30]", "b [body <html>]", "c [body {}]", "d [say perhaps]"})
                               .score("judge", stub.options(", time_limit_s: 1, retries: 0"));
  check_close(Scored::values(out.row), {0.25});
  CHECK(out.metrics.at("failures") == 4);
  stub.stop();
  const RewardOutput gone = one_row({"x"}).score("judge", stub.options(", retries: 1"));
  check_close(Scored::values(gone.row), {0.25});
  CHECK(gone.metrics.at("requests") == 2);
  CHECK_FALSE(gone.problem.empty());
}

TEST_CASE("judge: the cache answers what was asked before, and only that", "[host]") {
  const TempDir folder;
  Stub stub;
  const std::string cache = ", cache: " + (folder / "replies").string();
  const Scored scored = one_row({"cat [say yes]", "cow [say no]", "c [say perhaps]"});
  CHECK(scored.score("judge", stub.options(cache)).metrics.at("requests") == 3);
  CHECK(stub.stats()["requests"] == 3);
  const RewardOutput again = scored.score("judge", stub.options(cache));
  CHECK(again.metrics.at("cache_hits") == 2);
  CHECK(again.metrics.at("requests") == 1);  // a reply that cannot be graded is not kept
  CHECK(stub.stats()["requests"] == 4);
  check_close(Scored::values(again.row), {1.25 / 3});
  // Another setting is another request; a damaged file is no reply.
  CHECK(scored.score("judge", stub.options(cache + ", max_tokens: 5")).metrics.at("cache_hits") == 0);
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder / "replies"))
    if (entry.is_regular_file()) std::ofstream(entry.path()) << "{\"request\": ";
  CHECK(scored.score("judge", stub.options(cache)).metrics.at("cache_hits") == 0);
  CHECK(scored.score("judge", stub.options(cache)).metrics.at("cache_hits") == 2);
  folder.write("file", "");
  CHECK(one_row({"x"})
            .score("judge", stub.options(", cache: " + (folder / "file").string()))
            .metrics.at("cache_errors") == 1);
  // Without a server the cache still answers.
  stub.stop();
  check_close(Scored::values(scored.score("judge", stub.options(cache + ", retries: 0")).row), {1.25 / 3});
}

TEST_CASE("judge: the proxy of the options is used, whatever the environment says", "[host]") {
  const Stub stub;  // stands in for a proxy, too: it answers for any server
  const std::string plain = stub.options();
  const size_t begin = plain.find("127.0.0.1:");
  const std::string server = plain.substr(begin, plain.find('/', begin) - begin);
  std::string options = stub.options(", retries: 0, proxy: \"http://" + server + "\"");
  options.replace(begin, server.size(), "judge.invalid");
  ::setenv("no_proxy", "*", 1);
  check_close(one_row({"cat [say yes]"}).rows("judge", options), {1});
  ::unsetenv("no_proxy");
}

TEST_CASE("judge: no more requests at once than allowed, and no more in a minute", "[host]") {
  const Stub stub;
  std::vector<std::string> answers;
  for (int i = 0; i < 12; ++i) answers.push_back("a" + std::to_string(i) + " [sleep 0.1]");
  one_row(answers).score("judge", stub.options(", concurrency: 3"));
  CHECK(stub.stats()["most_at_once"].get<int>() <= 3);
  CHECK(stub.stats()["most_at_once"].get<int>() >= 2);
  const Stub slow;
  one_row({"v", "w", "x", "y", "z"}).score("judge", slow.options(", requests_per_minute: 300"));  // one each 200 ms
  const auto times = slow.stats()["times"].get<std::vector<double>>();
  REQUIRE(times.size() == 5);
  const auto [first, last] = std::minmax_element(times.begin(), times.end());
  CHECK(*last - *first >= 0.7);
}

TEST_CASE("judge: a request to stop ends waits and transfers", "[host]") {
  const Stub stub;
  const Scored scored = one_row({"a [sleep 100]", "b [fail 429 9]"});
  std::stop_source stop;
  std::jthread later([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(300));
    stop.request_stop();
  });
  RewardInput input = scored.input();
  input.stop = stop.get_token();
  const auto judge = builtin_rewards().make(
      "judge",
      parse_yaml(stub.options(", retries: 20, backoff_s: 60").replace(stub.options().find("backoff_s: 0.05, "), 17, ""),
                 "o"));
  RewardOutput out;
  CHECK(seconds_of([&] { out = judge->score(input); }) < 10);
  CHECK(out.metrics.at("failures") == 2);
}

TEST_CASE("judge: the key comes from the caller and goes into one header", "[host]") {
  const Stub stub;
  const auto registry = builtin_rewards({.variables = [](std::string_view name) -> std::optional<std::string> {
    if (name == "KEY") return "sk-4711";
    if (name == "BROKEN") return "sk\r\nX-Other: 1";
    return std::nullopt;
  }});
  const auto make = [&](const std::string& key) {
    return registry.make("judge", parse_yaml(stub.options(", api_key_env: " + key), "options"));
  };
  make("KEY")->score(one_row({"x"}).input());
  CHECK(stub.stats()["keys"][0] == "Bearer sk-4711");
  CHECK_THROWS_WITH(make("OTHER"), Catch::Contains("'OTHER' is not set"));
  CHECK_THROWS_WITH(make("BROKEN"), Catch::Contains("control characters"));
  ::setenv("PLURAL_TEST_KEY", "sk-1", 1);  // the library looks at no environment of its own
  CHECK_THROWS_WITH(
      builtin_rewards().make("judge", parse_yaml(stub.options(", api_key_env: PLURAL_TEST_KEY"), "options")),
      Catch::Contains("builtin_rewards()"));
}

namespace {

/// Answers to one question, as a matcher is asked about them.
struct Candidates {
  Candidates(std::vector<GoldAnswer> gold, const std::vector<std::string>& texts) {
    example.prompt = {{"user", "Which animals?"}};
    example.gold = std::move(gold);
    for (const std::string& text : texts) {
      Answer answer;
      answer.text = text;
      answer.normal = normal_form(text);
      answers.push_back(std::move(answer));
    }
    for (const Answer& answer : answers) questions.push_back({&answer, &example});
  }
  Example example;
  std::vector<Answer> answers;
  std::vector<MatchQuestion> questions;
};

using Gold = std::vector<int64_t>;

}  // namespace

TEST_CASE(
    "the matcher judge: an answer is right when the reply holds a yes, and not asked about when its text matches") {
  const Stub stub;
  const auto matcher = stub.matcher(", per_gold: false");
  const Candidates asked(animals(), {"House cat", "kitty [say Well, YES.]", "cow [say no]", "hen [say perhaps]", "a",
                                     "", "x [fail 400 9]", "owl", "cow [say no]"});
  MatchVerdicts verdicts = matcher->match_all(asked.questions);
  CHECK(verdicts.gold == Gold{0, 0, -1, -1, 0, -1, -1, 2, -1});
  CHECK(verdicts.metrics ==
        std::map<std::string, double>{
            {"asked", 5}, {"requests", 5}, {"retries", 0}, {"cache_hits", 0}, {"failures", 1}, {"cache_errors", 0}});
  CHECK_THAT(verdicts.problem, Catch::Contains("HTTP status 400"));
  CHECK(stub.stats()["last"]["max_tokens"] == 20);
  CHECK(stub.stats()["last"]["temperature"] == 0);
  // Verdicts are remembered, failures are not.
  verdicts = matcher->match_all(asked.questions);
  CHECK(verdicts.gold == Gold{0, 0, -1, -1, 0, -1, -1, 2, -1});
  CHECK(verdicts.metrics.at("asked") == 1);
  CHECK(matcher->match(asked.answers[1], asked.example) == 0);
  CHECK(matcher->key(asked.answers[0]) == "house cat");
}

TEST_CASE("the matcher judge: which of several gold answers it is") {
  const Stub stub;
  // Of both together the stub says "no; yes", of the first "no", of the second "Yes.".
  const Candidates asked({{"emu [say no", {}, 1}, {"yes]", {}, 1}}, {"bird"});
  MatchVerdicts verdicts = stub.matcher("", "{gold}|{answer}]")->match_all(asked.questions);
  CHECK(verdicts.gold == Gold{1});
  CHECK(verdicts.metrics.at("requests") == 3);
  verdicts = stub.matcher(", per_gold: false", "{gold}|{answer}]")->match_all(asked.questions);
  CHECK(verdicts.gold == Gold{0});
  CHECK(verdicts.metrics.at("requests") == 1);
  // A yes to all together and to none alone.
  const Candidates unsure({{"emu [say no", {}, 1}, {"or yes | [say no", {}, 1}, {"]", {}, 1}}, {"bird"});
  verdicts = stub.matcher("", "{gold}|{answer} [say no]")->match_all(unsure.questions);
  CHECK(verdicts.gold == Gold{0});
  CHECK(verdicts.metrics.at("requests") == 4);
  const Candidates one({{"emu", {}, 1}}, {"bird"});
  verdicts = stub.matcher("", "{question}|{gold}|{answer}")->match_all(one.questions);
  CHECK(verdicts.gold == Gold{0});
  CHECK(verdicts.metrics.at("requests") == 1);
  CHECK(stub.stats()["last"]["messages"][0]["content"] == "Which animals?|emu|bird");
}

TEST_CASE("the matcher judge: correctness in a batch, and replies kept on disk") {
  const TempDir folder;
  Stub stub;
  const std::string cache = ", cache: " + (folder / "replies").string();
  Example example;
  example.gold = {{"cat", {}, 1}};
  const std::string text = write_set({{"kitty [say yes]", "0.9"}, {"cow [say no]", "0.2"}, {"A [say yes]", "0.1"}});
  const CompletionView view{&example, text, {}, 3};
  const auto batch = [&](const std::string& more) {
    return build_answer_batch({&view, 1}, *make_answer_format("compact"), *stub.matcher(cache + more), nullptr);
  };
  const AnswerBatch asked = batch("");
  check_close(Scored::values(asked.correct()), {1, 0, 1});
  check_close(Scored::values(asked.first_hit()), {1, 0, 0});
  CHECK(asked.match_metrics.at("requests") == 3);
  stub.stop();
  const AnswerBatch again = batch(", retries: 0");
  CHECK(at::equal(again.match, asked.match));
  CHECK(again.match_metrics.at("cache_hits") == 3);
  CHECK(again.match_metrics.at("requests") == 0);
}

TEST_CASE("the matcher judge: a deadline, a key, and bad options") {
  const Stub stub;
  const Candidates asked(animals(), {"a [sleep 30]", "b [say yes]"});
  MatchVerdicts verdicts;
  CHECK(seconds_of([&] { verdicts = stub.matcher(", deadline_s: 1, per_gold: false")->match_all(asked.questions); }) <
        10);
  CHECK(verdicts.gold == Gold{-1, 0});
  CHECK(verdicts.metrics.at("failures") == 1);
  CHECK_THAT(verdicts.problem, Catch::Contains("deadline_s = 1"));

  const auto lookup = [](std::string_view name) {
    return name == "KEY" ? std::optional<std::string>("sk-4711") : std::nullopt;
  };
  const Candidates one(animals(), {"puppy"});
  stub.matcher(", api_key_env: KEY", "{answer}", lookup)->match_all(one.questions);
  CHECK(stub.stats()["keys"].back() == "Bearer sk-4711");
  CHECK_THROWS_WITH(stub.matcher(", api_key_env: OTHER", "{answer}", lookup), Catch::Contains("'OTHER' is not set"));
  CHECK_THROWS_WITH(stub.matcher(", api_key_env: KEY"), Catch::Contains("make_matcher()"));
  CHECK_THROWS_WITH(make_matcher("judge"), Catch::Contains("url"));
  CHECK_THROWS_WITH(stub.matcher(", fail_value: 1"), Catch::Contains("fail_value"));
}
