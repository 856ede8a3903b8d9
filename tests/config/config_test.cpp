// SPDX-License-Identifier: Apache-2.0
#include "plural/config.h"

#include "plural/error.h"
#include "plural/registry.h"
#include "tests/support/catch.h"
#include "tests/support/temp_dir.h"

using namespace plural;
using Catch::Contains;

namespace {

struct Inner {
  double kl_beta = 0.04;
  std::string mode = "fast";

  using config_struct = void;
  template <class V>
  void fields(V& v) {
    v.field("kl_beta", kl_beta, between(0, 1), "weight");
    v.field("mode", mode, one_of({"fast", "exact"}), "how");
  }
  void validate(ConfigReader& reader) {
    if (mode == "exact" && kl_beta == 0) reader.problem("kl_beta", "exact needs a weight");
  }
};

struct Options {
  bool on = false;
  int64_t count = 3;
  double rate = 1e-5;
  std::string file;
  std::vector<int64_t> sizes = {1, 2};
  std::vector<double> shares;
  std::vector<std::string> stop;
  PartSpec advantage{"grpo", {}};
  std::vector<PartSpec> rewards;
  Inner objective;

  using config_struct = void;
  template <class V>
  void fields(V& v) {
    v.field("on", on, any_value(), "a switch");
    v.field("count", count, at_least(1), "how many");
    v.field("rate", rate, above(0), "how fast");
    v.field("file", file, required_value(), "what to read");
    v.field("sizes", sizes, at_least(0), "sizes");
    v.field("shares", shares, between(0, 1), "shares");
    v.field("stop", stop, any_value(), "where to stop");
    v.field("advantage", advantage, any_value(), "credit");
    v.field("rewards", rewards, any_value(), "rewards");
    v.field("objective", objective, any_value(), "the loss");
  }
};

Options read(const std::string& yaml) { return read_options<Options>(parse_yaml(yaml, "run.yaml")); }
std::string error_of(const std::string& yaml) {
  return thrown<InputError>([&] { read(yaml); });
}
std::string yaml_error(const std::string& yaml) {
  return thrown<InputError>([&] { parse_yaml(yaml, "run.yaml"); });
}

}  // namespace

TEST_CASE("every kind of field is read") {
  const Options o = read(R"(
on: true
count: 7
rate: 10
file: "12"      # quoted: text
sizes: [4, 0]
shares: [0.5, 1]
stop: ["\n", plain, "3"]
advantage: {name: grpo, scale: none}
rewards:
  - coverage
  - name: brier
    weight: 2
objective:
  kl_beta: 1e-3
  mode: exact
)");
  CHECK(o.on);
  CHECK(o.count == 7);
  CHECK(o.rate == 10.0);
  CHECK(o.file == "12");
  CHECK(o.sizes == std::vector<int64_t>{4, 0});
  CHECK(o.shares == std::vector<double>{0.5, 1.0});
  CHECK(o.stop == std::vector<std::string>{"\n", "plain", "3"});
  CHECK(o.advantage.options.find("scale")->scalar == "none");
  CHECK(o.advantage.options.find("name") == nullptr);
  REQUIRE(o.rewards.size() == 2);
  CHECK(o.rewards[0].name == "coverage");
  CHECK(o.rewards[0].options.kind == ConfigNode::Kind::kMap);
  CHECK(o.rewards[1].options.find("weight")->scalar == "2");
  CHECK(to_string(o.rewards[1].options.mark) == "run.yaml:12:5");
  CHECK(o.objective.kl_beta == 1e-3);
  // Empty values mean the default.
  CHECK(read("file: a\ncount:\nobjective:\n").count == 3);
  CHECK(read("file: a\ncount: ~\nobjective: null\n").objective.kl_beta == 0.04);
}

TEST_CASE("all problems are reported together, in the order of the file") {
  const std::string text = error_of("count: 0\nobjective:\n  kl_bata: 1\n  mode: fasst\non: yes\nrate: 1e999\n");
  CHECK(text ==
        "run.yaml:1:1: missing key 'file' (what to read)\n"
        "run.yaml:1:8: 'count': expected a whole number >= 1, got '0'\n"
        "run.yaml:3:3: unknown key 'kl_bata' in 'objective' (did you mean 'kl_beta'?)\n"
        "run.yaml:4:9: 'objective.mode': expected one of fast, exact, got 'fasst' (did you mean 'fast'?)\n"
        "run.yaml:5:5: 'on': expected true or false, got 'yes'\n"
        "run.yaml:6:7: 'rate': expected a number > 0, got '1e999'");
}

TEST_CASE("numbers, switches and texts are told apart strictly") {
  CHECK(read("file: a\nrate: 1e-5").rate == 1e-5);
  CHECK(read("file: a\nrate: +2.5").rate == 2.5);
  CHECK(read("file: a\ncount: 9007199254740993").count == 9007199254740993);
  for (const char* bad :
       {"1.5", "1e3", "0x10", "ten", "\"3\"", "3 4", "[3]", "{}", "99999999999999999999", "1_000", ""})
    if (*bad)
      CHECK_THAT(error_of(std::string("file: a\ncount: ") + bad), Contains("'count': expected a whole number >= 1"));
  CHECK_THAT(error_of("file: a\ncount: \"3\""), Contains("remove the quotes"));
  for (const char* bad : {".inf", "inf", "nan", ".nan", "-1", "0", "1,5", "true", "\"1\""})
    CHECK_THAT(error_of(std::string("file: a\nrate: ") + bad), Contains("'rate': expected a number > 0"));
  for (const char* bad : {"True", "1", "on", "\"true\"", "[true]"})
    CHECK_THAT(error_of(std::string("file: a\non: ") + bad), Contains("'on': expected true or false"));
  CHECK_THAT(error_of("file: [a]"), Contains("'file': expected text, got a list"));
  CHECK_THAT(error_of("file: \"\""), Contains("missing key 'file'"));
  CHECK_THAT(error_of("file: a\nsizes: -3"),
             Contains("'sizes': expected a whole number") && Contains("or a list of them"));
  CHECK_THAT(error_of("file: a\nsizes: {b: 3}"), Contains("'sizes': expected a list"));
  CHECK(read("file: a\nsizes: 3").sizes == std::vector<int64_t>{3});  // one value is a list of one
  CHECK_THAT(error_of("file: a\nsizes: [1, -2, x]"), Contains("'sizes[1]'") && Contains("'sizes[2]'"));
  CHECK_THAT(error_of("file: a\nrewards: [{weight: 1}]"),
             Contains("'rewards[0]': expected a name, or a map with 'name'"));
  CHECK_THAT(error_of("file: a\nobjective: 3"), Contains("'objective': expected a map of keys, got '3'"));
}

TEST_CASE("a key outside of its section, and rules across fields") {
  CHECK_THAT(error_of("file: a\nkl_beta: 1"),
             Contains("run.yaml:2:1: unknown key 'kl_beta' (did you mean 'objective.kl_beta'?)"));
  CHECK_THAT(error_of("file: a\nzzz: 1"), Contains("unknown key 'zzz'") && !Contains("mean"));
  CHECK_THAT(error_of("file: a\nobjective: {kl_beta: 0, mode: exact}"),
             Contains("run.yaml:2:13: 'objective.kl_beta': exact needs a weight"));
}

TEST_CASE("YAML errors have their place") {
  CHECK_THAT(yaml_error("a: 1\nb: 2\na: 3\n"), Contains("run.yaml:3:1: duplicate key 'a' (first at line 1)"));
  CHECK_THAT(yaml_error("x:\n  b: 1\n  \"b\": 2\n"), Contains("run.yaml:3:3: duplicate key 'b'"));
  CHECK_THAT(yaml_error("x: {b: 1, b: 2}"), Contains("duplicate key 'b'"));
  CHECK_THAT(yaml_error("a: [1, 2\nb: 3"), Contains("run.yaml:2:") && Contains("not valid YAML"));
  CHECK_THAT(yaml_error("a: 1\n---\nb: 2"), Contains("run.yaml:2:1: a second YAML document"));
  CHECK_THAT(yaml_error("a: &x 1\nb: *x"), Contains("run.yaml:1:4: anchors"));
  CHECK_THAT(yaml_error("a: !!int 3"), Contains("run.yaml:1:") && Contains("tags"));
  CHECK_THAT(yaml_error("- a\n- b"), Contains("run.yaml:1:1: expected keys and values"));
  CHECK_THAT(yaml_error("just text"), Contains("expected keys and values"));
  CHECK_THAT(yaml_error("a: 1\nb: \xff\n"), Contains("run.yaml:2:1: this line is not valid UTF-8"));
  CHECK_THAT(yaml_error("? [a]\n: 1"), Contains("a key must be a name"));
  CHECK_THAT(yaml_error(std::string(100000, '[')), Contains("run.yaml"));
  CHECK(parse_yaml("", "f").kind == ConfigNode::Kind::kMap);
  CHECK(parse_yaml("# only a comment\n", "f").entries.empty());
  CHECK_THAT(thrown<InputError>([] { read_yaml("/nowhere/run.yaml"); }), Contains("/nowhere/run.yaml: cannot open"));
}

TEST_CASE("duplicate keys are reported together, or handed over; the first value stays") {
  const std::string yaml = "a: 1\nb: {c: 1, c: {d: 1, d: 2}}\na: [3]\na: 4\ne: 5\n";
  CHECK(yaml_error(yaml) ==
        "run.yaml:2:11: duplicate key 'c' (first at line 2)\n"
        "run.yaml:2:21: duplicate key 'd' (first at line 2)\n"
        "run.yaml:3:1: duplicate key 'a' (first at line 1)\n"
        "run.yaml:4:1: duplicate key 'a' (first at line 1)");
  std::vector<DuplicateKey> duplicates;
  const ConfigNode root = parse_yaml(yaml, "run.yaml", &duplicates);
  REQUIRE(duplicates.size() == 4);
  CHECK(to_string(duplicates[2].mark) == "run.yaml:3:1");
  CHECK(to_yaml(root) == "a: 1\nb:\n  c: 1\ne: 5\n");
  ConfigNode changed = root;
  CHECK_THAT(thrown<InputError>([&] { apply_override(changed, "a={b: 1, b: 2}"); }), Contains("duplicate key 'b'"));
}

TEST_CASE("overrides reach into sections and lists") {
  ConfigNode root = parse_yaml("file: a\nrewards: [{name: x, weight: 1}, y]\nsizes: [1, 2]\n", "run.yaml");
  const auto set = [&](const std::string& text) { apply_override(root, text); };
  set("file=/a=b.txt");
  set("objective.kl_beta=0.5");
  set("rewards.0.weight=2");
  set("rewards.2={name: z, k: 3}");
  set("sizes=[7]");
  set("count=");
  const Options o = read_options<Options>(root);
  CHECK(o.file == "/a=b.txt");
  CHECK(o.objective.kl_beta == 0.5);
  CHECK(o.rewards.at(0).options.find("weight")->scalar == "2");
  CHECK(o.rewards.at(2).name == "z");
  CHECK(o.sizes == std::vector<int64_t>{7});
  CHECK(o.count == 3);

  const auto bad = [&](const std::string& text) { return thrown<InputError>([&] { set(text); }); };
  CHECK_THAT(bad("count"), Contains("--set count: expected key=value"));
  CHECK_THAT(bad("=3"), Contains("expected key=value"));
  CHECK_THAT(bad("rewards.9.weight=1"), Contains("'rewards' has 3 elements"));
  CHECK_THAT(bad("rewards.first=1"), Contains("expected an element's number"));
  CHECK_THAT(bad("file.x=1"), Contains("'file' is a single value"));
  CHECK_THAT(bad("a..b=1"), Contains("empty part"));
  CHECK_THAT(bad("file=[a"), Contains("--set file=[a: ") && Contains("quote the value"));
  CHECK_THAT(bad("file=@x"), Contains("not valid YAML"));
  // A wrong value is reported under the override's own text.
  set("count=x");
  set("cuont=4");
  CHECK(thrown<InputError>([&] { read_options<Options>(root); }) ==
        "--set count=x: 'count': expected a whole number >= 1, got 'x'\n"
        "--set cuont=4: unknown key 'cuont' (did you mean 'count'?)");
}

TEST_CASE("a dump reads back equal, whatever the texts hold") {
  Options o;
  o.on = true;
  o.rate = 0.1 + 0.2;
  o.shares = {1.0 / 3, 1e-300, 0};
  o.stop = {"",         " ",    "true", "null", "~",    "3",   "1e5", "- a", "a: b", "#x", "line\nbreak\t\"q\" \\ \x01",
            "\xc3\xa9", "it's", "[x]",  "{",    "a #b", "---", "...", "=",   "!tag", "&a", "*a",
            "%",        "@",    "`",    "y",    "No",   "?",   "-",   "0x1", "..."};
  o.file = "~/x y";
  o.advantage = {"rloo", parse_yaml("scale: none\nlist: [1, \"2\", [3, {a: b}], []]\nempty: {}\nnothing:\n", "f")};
  o.rewards = {{"a", parse_yaml("weight: 2", "f")}, {"b", parse_yaml("", "f")}};
  o.objective.kl_beta = 1;
  const std::string yaml = dump_yaml(o);
  INFO(yaml);
  const Options back = read(yaml);
  CHECK(back.on == o.on);
  CHECK(back.rate == o.rate);
  CHECK(back.shares == o.shares);
  CHECK(back.stop == o.stop);
  CHECK(back.file == o.file);
  CHECK((back.advantage == o.advantage));
  CHECK(back.advantage.options.find("list")->items[1].quoted);  // still text
  CHECK((back.rewards == o.rewards));
  CHECK(back.objective.kl_beta == 1.0);
  CHECK(dump_yaml(back) == yaml);
}

TEST_CASE("the describer lists every key with its type, default, range and meaning") {
  const auto docs = describe_options<Options>();
  REQUIRE(docs.size() == 12);
  CHECK(docs[1].path == "count");
  CHECK(docs[1].type == "whole number");
  CHECK(docs[1].default_value == "3");
  CHECK(docs[1].range == ">= 1");
  CHECK(docs[1].help == "how many");
  CHECK(docs[2].default_value == "1e-05");
  CHECK(docs[3].default_value == "(required)");
  CHECK(docs[9].type == "section");
  CHECK(docs[11].path == "objective.mode");
  CHECK(docs[11].range == "fast | exact");
}

TEST_CASE("unknown names come with the nearest one and the list") {
  struct Thing {};
  Registry<Thing> registry("thing");
  registry.add("coverage", "", [](const ConfigNode&) { return std::make_unique<Thing>(); });
  registry.add("brier", "", [](const ConfigNode&) { return std::make_unique<Thing>(); });
  ConfigNode options;
  options.mark = {"run.yaml", 4, 2};
  CHECK(thrown<InputError>([&] { registry.make("covrage", options); }) ==
        "run.yaml:4:2: unknown thing 'covrage' (did you mean 'coverage'?); known: brier, coverage");
  CHECK(registry.make("brier") != nullptr);
  CHECK(nearest_name("x", {"y", "z"}).empty());
  CHECK(nearest_name("smaple", {"sample", "simple"}) == "sample");
}
