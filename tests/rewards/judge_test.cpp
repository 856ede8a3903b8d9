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
  std::string options(const std::string& more = "") const {
    return "{url: \"http://127.0.0.1:" + port_ +
           "/v1/chat/completions\", model: m, prompt: \"{answer}\", backoff_s: 0.05, " + "fail_value: 0.25" + more +
           "}";
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
