// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <random>
#include <set>

#include "plural/dataset.h"
#include "plural/error.h"
#include "tests/support/catch.h"
#include "tests/support/temp_dir.h"

using namespace plural;
using Catch::Contains;

namespace {
std::string bad(const std::string& json) {
  return thrown<InputError>([&] { parse_example(json, "data.jsonl:7"); });
}
}  // namespace

TEST_CASE("an example keeps everything that its line says") {
  const Example e = parse_example(
      R"({"id":"x1","prompt":[{"role":"system","content":"S"},{"role":"user","content":"Name 3 kinds of h\u00e9ron"}],)"
      R"("gold":["a",{"answer":"b","aliases":["B","bee"],"weight":2.5},{"answer":"c","weight":0}],)"
      R"("responses":[{"text":"t","reward":0.5},{"text":"u"}],"source":"wn","lex":{"z":[1,null],"k":"v"},"n":3})",
      "f:1");
  CHECK(e.id == "x1");
  REQUIRE(e.prompt.size() == 2);
  CHECK(e.prompt[1].content == "Name 3 kinds of h\xc3\xa9ron");
  REQUIRE(e.gold.size() == 3);
  CHECK(e.gold[0].answer == "a");
  CHECK(e.gold[0].weight == 1.0);
  CHECK(e.gold[1].aliases == std::vector<std::string>{"B", "bee"});
  CHECK(e.gold[1].weight == 2.5);
  CHECK(e.gold[2].weight == 0.0);
  REQUIRE(e.responses.size() == 2);
  CHECK(e.responses[0].reward == 0.5);
  CHECK(e.responses[1].reward == 0.0);
  CHECK(e.source == "wn");
  CHECK(e.extra == std::map<std::string, std::string>{{"lex", R"({"k":"v","z":[1,null]})"}, {"n", "3"}});

  const std::string line = to_json_line(e);
  CHECK(line.find('\n') == std::string::npos);
  CHECK(nlohmann::json::parse(line) ==
        nlohmann::json::parse(
            R"({"id":"x1","prompt":[{"role":"system","content":"S"},{"role":"user","content":"Name 3 kinds of héron"}],
          "gold":["a",{"answer":"b","aliases":["B","bee"],"weight":2.5},{"answer":"c","weight":0.0}],
          "responses":[{"text":"t","reward":0.5},{"text":"u","reward":0.0}],"source":"wn","lex":{"z":[1,null],"k":"v"},"n":3})"));
  CHECK(to_json_line(parse_example(line, "f:1")) == line);
}

TEST_CASE("a plain prompt is one user message and gold may be left out") {
  const Example e = parse_example(R"({"prompt":"Hi","id":12})", "f:1");
  REQUIRE(e.prompt.size() == 1);
  CHECK(e.prompt[0].role == "user");
  CHECK(e.prompt[0].content == "Hi");
  CHECK(e.gold.empty());
  CHECK(e.id == "12");
  CHECK(parse_example(R"({"prompt":"Hi","gold":[]})", "f:1").gold.empty());
  CHECK(to_json_line(e) == R"({"id":"12","prompt":"Hi"})");
  Example broken = e;
  broken.extra["x"] = "{not json";
  CHECK_THROWS_AS(to_json_line(broken), CheckError);
}

TEST_CASE("a bad line names its place, its field and what it holds") {
  CHECK(bad(R"({"prompt":"p","gold":["a","b",{"answer":"c","weight":"x"}]})") ==
        "data.jsonl:7: field 'gold[2].weight': expected a number >= 0, got \"x\"");
  CHECK_THAT(bad(R"({"prompt":"p","gold":[{"answer":"c","weight":-1}]})"),
             Contains("gold[0].weight") && Contains("-1"));
  CHECK_THAT(bad(R"({"prompt":"p","gold":[{"answer":"c","weight":1e999}]})"), Contains("data.jsonl:7"));
  CHECK_THAT(bad(R"({"prompt":"p","gold":[3]})"), Contains("'gold[0]'") && Contains("got 3"));
  CHECK_THAT(bad(R"({"prompt":"p","gold":"a"})"), Contains("'gold': expected a list"));
  CHECK_THAT(bad(R"({"prompt":"p","gold":[{"aliases":[]}]})"), Contains("'gold[0].answer': expected text, got null"));
  CHECK_THAT(bad(R"({"prompt":"p","gold":[{"answer":"a","aliases":["b",1]}]})"), Contains("'gold[0].aliases[1]'"));
  CHECK_THAT(bad(R"({"gold":["a"]})"), Contains("'prompt' is missing"));
  CHECK_THAT(bad(R"({"prompt":[]})"), Contains("'prompt'"));
  CHECK_THAT(bad(R"({"prompt":[{"role":"robot","content":"x"}]})"), Contains("'prompt[0].role'") && Contains("robot"));
  CHECK_THAT(bad(R"({"prompt":[{"role":"user"}]})"), Contains("'prompt[0].content'"));
  CHECK_THAT(bad(R"({"prompt":"p","responses":[{"reward":1}]})"), Contains("'responses[0].text'"));
  CHECK_THAT(bad(R"({"prompt":"p","responses":[{"text":"a","reward":"b"}]})"), Contains("'responses[0].reward'"));
  CHECK_THAT(bad(R"({"prompt":"p","id":[1]})"), Contains("'id'"));
  CHECK_THAT(bad(R"(["p"])"), Contains("expected a JSON object"));
  CHECK_THAT(bad(R"({"prompt":"p")"), Contains("data.jsonl:7: not valid JSON at column"));
  CHECK_THAT(bad("{\"prompt\":\"a\xff\"}"), Contains("byte 13 (0xff) is not valid UTF-8"));
  CHECK_THAT(bad("{\"prompt\":\"a\xed\xa0\x80\"}"), Contains("UTF-8"));  // a surrogate
  std::string deep = R"({"prompt":"p","x":)";
  deep.append(100000, '[');
  CHECK_THAT(bad(deep), Contains("nested"));
}

TEST_CASE("mutated lines are read or refused, never worse") {
  const std::string good =
      R"({"id":"x1","prompt":[{"role":"user","content":"Name \u00e9"}],"gold":["a",{"answer":"b","aliases":["B"],"weight":2.5}],)"
      R"("responses":[{"text":"t","reward":0.5}],"n":[1,{"k":null}]})";
  std::mt19937_64 random(11);
  const std::string spice = "{}[]\",:0123456789-eE.\\u\xff\xc3tfn";
  int refused = 0;
  for (int trial = 0; trial < 3000; ++trial) {
    std::string bytes = good;
    for (uint64_t change = 0, n = 1 + random() % 3; change < n; ++change) {
      const size_t place = random() % bytes.size();
      if (random() % 4 == 0)
        bytes.erase(place, 1 + random() % 8);
      else if (random() % 2 == 0)
        bytes[place] = spice[random() % spice.size()];
      else
        bytes.insert(place, 1, spice[random() % spice.size()]);
    }
    try {
      const std::string line = to_json_line(parse_example(bytes, "f:1"));
      REQUIRE(to_json_line(parse_example(line, "f:1")) == line);
    } catch (const InputError& error) {
      REQUIRE(std::string(error.what()).rfind("f:1: ", 0) == 0);
      ++refused;
    }
  }
  CHECK(refused > 500);
  CHECK(refused < 3000);
}

TEST_CASE("a data file reports all bad lines together and skips blank ones") {
  const TempDir dir;
  const auto good = dir.write("good.jsonl", "\xef\xbb\xbf{\"prompt\":\"a\"}\r\n\n  \n{\"prompt\":\"b\"}");
  const auto examples = load_dataset(good);
  REQUIRE(examples.size() == 2);
  CHECK(examples[1].prompt[0].content == "b");

  const auto two = dir.write("two.jsonl", "{\"prompt\":\"a\"}\n{\"prompt\":1}\n\nnope\n");
  const std::string text = thrown<InputError>([&] { load_dataset(two); });
  CHECK_THAT(text, Contains(two.string() + ":2: field 'prompt'") && Contains(two.string() + ":4: not valid JSON"));

  std::string many;
  for (int i = 0; i < 50; ++i) many += "{}\n";
  const std::string long_text = thrown<InputError>([&] { load_dataset(dir.write("many.jsonl", many)); });
  CHECK(std::count(long_text.begin(), long_text.end(), '\n') == 20);
  CHECK_THAT(long_text, Contains("30 more bad lines"));

  CHECK_THAT(thrown<InputError>([&] { load_dataset(dir.write("empty.jsonl", "\n")); }), Contains("no examples"));
  CHECK_THAT(thrown<InputError>([&] { load_dataset(dir / "missing.jsonl"); }), Contains("missing.jsonl"));
}

TEST_CASE("the data order is a fresh permutation each epoch and a function of the position alone") {
  DataOrder order(50, 3), again(50, 3), other(50, 4);
  std::vector<std::vector<int64_t>> epochs(3);
  for (int64_t n = 0; n < 150; ++n) {
    const auto draw = order.at(n);
    CHECK(draw.epoch == n / 50);
    epochs[static_cast<size_t>(draw.epoch)].push_back(draw.example);
  }
  for (const auto& epoch : epochs) CHECK(std::set<int64_t>(epoch.begin(), epoch.end()).size() == 50);
  CHECK(epochs[0] != epochs[1]);
  CHECK(epochs[1] != epochs[2]);
  CHECK(again.at(149).example == epochs[2][49]);  // no walk from the start needed
  CHECK(again.at(0).example == epochs[0][0]);
  int same = 0;
  for (int64_t n = 0; n < 50; ++n) same += other.at(n).example == epochs[0][static_cast<size_t>(n)];
  CHECK(same < 10);
  CHECK_THROWS_AS(DataOrder(0, 1), CheckError);
}
