// SPDX-License-Identifier: Apache-2.0
#include "plural/run_config.h"

#include <cstdlib>
#include <random>

#include "plural/error.h"
#include "tests/support/catch.h"
#include "tests/support/temp_dir.h"

using namespace plural;
using Catch::Contains;
namespace fs = std::filesystem;

namespace {

const std::string kMinimal = "model: m\noutput: out\ndata: {train: d.jsonl}\nrewards: [coverage]\n";

RunConfig read(const std::string& yaml) { return read_run_config(parse_yaml(yaml, "run.yaml")); }
std::string error_of(const std::string& yaml) {
  return thrown<InputError>([&] { read(yaml); });
}
fs::path source_dir() { return std::getenv("PLURAL_SOURCE_DIR"); }

std::string table() {
  std::string text = "| key | type | default | allowed | meaning |\n| --- | --- | --- | --- | --- |\n";
  const auto cell = [](const std::string& value) {
    std::string escaped;
    for (char c : value) {
      if (c == '|') escaped += '\\';
      escaped += c;
    }
    return escaped;
  };
  for (const FieldDoc& doc : run_config_docs())
    text += "| `" + doc.path + "` | " + doc.type + " | " + cell(doc.default_value) + " | " + cell(doc.range) + " | " +
            cell(doc.help) + " |\n";
  return text;
}

}  // namespace

TEST_CASE("a small configuration takes the defaults of every part") {
  const RunConfig config = read(kMinimal);
  CHECK(config.task == "rl");
  CHECK(config.objective.aggregation == "dapo");
  CHECK(config.advantage.name == "grpo");
  CHECK(config.optimizer.beta2 == 0.99);
  CHECK(config.sampling.max_new_tokens == 128);
  CHECK(read("task: sft\nmodel: m\noutput: o\ndata: {train: d}\nsft: {num_answers: [1, 2]}").sft.num_answers ==
        std::vector<int64_t>{1, 2});
  // One value is a list of one.
  CHECK(config.num_answers == std::vector<int64_t>{3});
  CHECK(read(kMinimal + "num_answers: 5").num_answers == std::vector<int64_t>{5});
  CHECK(read(kMinimal + "num_answers: [5, 1]").num_answers == std::vector<int64_t>{5, 1});
  CHECK_THAT(error_of(kMinimal + "num_answers: 0"), Contains("expected a whole number >= 1, or a list of them"));
  for (const char* task : {"task: rl\n", "task: sft\n"})
    CHECK_THAT(error_of(task + kMinimal + "num_answers: []"), Contains("expected at least one number"));
}

TEST_CASE("duplicate and unknown keys and wrong types are reported together") {
  const TempDir dir;
  const fs::path file = dir.write(
      "run.yaml", kMinimal + "steps: 5\nstepz: 5\nsteps: 6\nseed: x\nmatcher: {name: alias, name: alias}\n");
  const std::string place = file.string() + ":";
  CHECK(thrown<InputError>([&] { load_run_config(file); }) ==
        place + "6:1: unknown key 'stepz' (did you mean 'steps'?)\n" + place +
            "7:1: duplicate key 'steps' (first at line 5)\n" + place +
            "8:7: 'seed': expected a whole number >= 0, got 'x'\n" + place +
            "9:24: duplicate key 'name' (first at line 9)");
  // An override of the key does not make up for it.
  CHECK_THAT(
      thrown<InputError>([&] { load_run_config(dir.write("b.yaml", kMinimal + "seed: 1\nseed: 2\n"), {"seed=3"}); }),
      Contains("b.yaml:6:1: duplicate key 'seed'"));
}

TEST_CASE("rules across fields are reported with everything else") {
  CHECK(
      error_of("task: rl\nsamples_per_prompt: 1\nseed: -1\n") ==
      "run.yaml:1:1: missing key 'model' (Hugging Face folder of the starting model)\n"
      "run.yaml:1:1: missing key 'output' (run folder)\n"
      "run.yaml:1:1: missing key 'data.train' (training data, JSON Lines)\n"
      "run.yaml:1:1: 'rewards': task 'rl' needs at least one reward, e.g. rewards: [{name: coverage}]\n"
      "run.yaml:2:1: 'samples_per_prompt': advantage 'grpo' compares completions of one prompt: expected >= 2, got 1\n"
      "run.yaml:3:7: 'seed': expected a whole number >= 0, got '-1'");
  CHECK_THAT(error_of(kMinimal + "sampling: {temperature: 0}"), Contains("run.yaml:5:12: 'sampling.temperature'"));
  CHECK_THAT(error_of(kMinimal + "reference: m2"), Contains("objective.kl_weight"));
  CHECK_NOTHROW(read(kMinimal + "reference: m2\nobjective: {kl_weight: 0.1}"));
  CHECK_THAT(error_of(kMinimal + "evaluation: {every: 5}"), Contains("evaluation.data"));
  CHECK_THAT(error_of(kMinimal + "device: gpu"), Contains("cpu, cuda or cuda:N"));
  CHECK_NOTHROW(read(kMinimal + "device: cuda:1"));
  CHECK_THAT(error_of(kMinimal + "device: \"cuda:\""), Contains("'device'"));
  CHECK_THAT(error_of(kMinimal + "optimizer: {warmup_steps: 500}"),
             Contains("500 steps of warm-up, but the run has 100"));
  // The schedule counts steps, not the passes of a step.
  CHECK_THAT(error_of(kMinimal + "passes: 4\noptimizer: {warmup_steps: 101}"), Contains("but the run has 100"));
  CHECK_THAT(error_of(kMinimal + "optimizer: {beta1: 1}"), Contains("optimizer.beta1"));
  CHECK_THAT(error_of(kMinimal + "sft: {num_answers: []}"), Contains("sft.num_answers"));
  CHECK_THAT(error_of(kMinimal + "task: grpo"), Contains("expected one of rl, sft"));
  CHECK_NOTHROW(read(kMinimal + "samples_per_prompt: 1\nadvantage: remax"));
  CHECK_THAT(error_of(kMinimal + "samples_per_prompt: 1\nadvantage: remax\nmax_refills: 2"), Contains("'max_refills'"));
  CHECK_THAT(error_of(kMinimal + "samples_per_prompt: 1\nadvantage: set_credit"), Contains("expected >= 2, got 1"));
  CHECK_THAT(error_of(kMinimal + "refill_factor: 2"), Contains("'refill_factor'") && Contains("max_refills"));
  CHECK_THAT(error_of(kMinimal + "max_refills: 2\ncarry_over: {max_groups: 4}"),
             Contains("run.yaml:6:14: 'carry_over.max_groups'") && Contains("refill_factor above 1"));
  CHECK_NOTHROW(read(kMinimal + "max_refills: 2\nrefill_factor: 1.5\ncarry_over: {max_groups: 4}"));
  CHECK_FALSE(read(kMinimal).curriculum.on());
  CHECK_FALSE(read(kMinimal).replay.on());
  CHECK(read(kMinimal + "curriculum: {measure: coverage, target: 0.25}").curriculum.on());
  CHECK_THAT(error_of(kMinimal + "curriculum: {measure: luck}"), Contains("expected one of none, any_correct"));
  CHECK(read(kMinimal + "replay: {weight: 0.1}").replay.max_modes == 16);
}

TEST_CASE("pieces of an objective that do not go together are refused in their places") {
  CHECK_THAT(error_of(kMinimal + "objective: {aggregation: luspo}"),
             Contains("run.yaml:5:13: 'objective.aggregation'") && Contains("ratio: sequence"));
  CHECK_THAT(error_of(kMinimal + "objective: {kl_weight: 0.1, kl_in: reward}"), Contains("'objective.kl'"));
  CHECK_THAT(error_of(kMinimal + "objective: {surrogate: reinforce}\npasses: 2"),
             Contains("'passes'") && Contains("has no ratio"));
  CHECK_NOTHROW(read(kMinimal + "objective: {surrogate: reinforce}"));
  CHECK_NOTHROW(read(kMinimal + "reference: m2\nobjective: {kl_target: 0.05, kl_controller: additive}"));
  const std::string kl = kMinimal + "objective: {kl_weight: 0.1, kl: k1, kl_in: reward}\n";
  CHECK_NOTHROW(read(kl));
  for (const std::string advantage : {"gdpo", "pass_at_k", "mode_coverage"})
    CHECK_THAT(error_of(kl + "advantage: " + advantage),
               Contains("'objective.kl_in'") && Contains("does not look at the total"));
  CHECK_NOTHROW(read(kl + "advantage: {name: mode_coverage, reward_weight: 1}"));
  for (const std::string advantage : {"maxrl", "darling"})
    CHECK_THAT(error_of(kl + "advantage: " + advantage), Contains("'objective.kl_in'") && Contains("at least 0"));
}

TEST_CASE("refills are refused where equal rewards teach something, carried groups where nothing weighs them") {
  for (const std::string advantage : {"remax", "reinforce_pp", "{name: reinforce_pp, baseline: none}"})
    CHECK_THAT(error_of(kMinimal + "max_refills: 2\nadvantage: " + advantage),
               Contains("'max_refills'") && Contains("all equal as well"));
  CHECK_NOTHROW(read(kMinimal + "max_refills: 2\nadvantage: {name: reinforce_pp, baseline: group}"));
  CHECK_NOTHROW(read(kMinimal + "max_refills: 2\nadvantage: mode_coverage"));
  const std::string carried = kMinimal + "max_refills: 2\nrefill_factor: 2\ncarry_over: {max_groups: 4}\n";
  CHECK_THAT(error_of(carried + "objective: {surrogate: reinforce}"),
             Contains("'carry_over.max_groups'") && Contains("has no ratio"));
  CHECK_NOTHROW(read(carried + "objective: {surrogate: reinforce, importance: token}"));
}

TEST_CASE("a critic and an advantage without use for it, and the reverse, are refused") {
  CHECK_THAT(error_of(kMinimal + "advantage: gae"), Contains("'critic.trunk'") && Contains("shared or own, got none"));
  CHECK_THAT(error_of(kMinimal + "critic: {trunk: shared}"),
             Contains("run.yaml:5:10: 'critic.trunk'") && Contains("'grpo' has no use for a critic"));
  CHECK_THAT(error_of(kMinimal + "critic: {value_clip: 0.1}"), Contains("none is asked for"));
  CHECK_THAT(error_of(kMinimal + "advantage: gae\ncritic: {trunk: shared, model: m2}"), Contains("'critic.model'"));
  CHECK_THAT(error_of(kMinimal + "advantage: gae\ncritic: {trunk: own, warmup_steps: 101}"),
             Contains("'critic'") && Contains("has 100 steps"));
  CHECK_THAT(error_of(kMinimal + "advantage: gae\ncritic: {trunk: own, optimizer: {beta2: 1}}"),
             Contains("critic.optimizer.beta2"));
  const RunConfig config = read(kMinimal + "advantage: gae\nsamples_per_prompt: 1\ncritic: {trunk: own, model: m2}");
  CHECK(dump(read(dump(config))) == dump(config));
  CHECK_NOTHROW(read(dump(read(kMinimal))));  // the resolved section of a run without a critic
}

TEST_CASE("a reference that moves needs a KL term, and steps at which it moves") {
  CHECK_THAT(error_of(kMinimal + "objective: {reference_update: {every: 5}}"),
             Contains("'objective.reference_update'") && Contains("kl_weight"));
  CHECK_THAT(error_of(kMinimal + "objective: {kl_weight: 0.1, reference_update: {rate: 0.5}}"), Contains("every"));
  CHECK_THAT(error_of(kMinimal + "objective: {kl_weight: 0.1, reference_update: {every: 1, rate: 0}}"),
             Contains("'objective.reference_update.rate'"));
  CHECK_NOTHROW(read(kMinimal + "objective: {kl_weight: 0.1, reference_update: {every: 1, rate: 0.01}}"));
}

TEST_CASE("an owner's own checks are reported in the same message") {
  const auto check = [](const RunConfig& config, ConfigReader& reader) {
    if (config.format != "compact") reader.problem("format", "no such format");
  };
  const std::string text = thrown<InputError>(
      [&] { read_run_config(parse_yaml("format: xml\n" + kMinimal + "stepz: 3", "run.yaml"), check); });
  CHECK(text == "run.yaml:1:1: 'format': no such format\nrun.yaml:6:1: unknown key 'stepz' (did you mean 'steps'?)");

  // What a part says about its own options keeps its own place.
  const auto part = [](const RunConfig&, ConfigReader& reader) {
    reader.problem("rewards", "run.yaml:4:20: unknown key 'x'");
  };
  CHECK(thrown<InputError>([&] { read_run_config(parse_yaml(kMinimal, "run.yaml"), part); }) ==
        "run.yaml:4:20: unknown key 'x'");
}

TEST_CASE("the resolved configuration reads back equal") {
  const TempDir dir;
  const auto file = dir.write("run.yaml",
                              kMinimal + "advantage: {name: grpo, scale: none, std_floor: 1e-6}\nseed: 7\n");
  const RunConfig config = load_run_config(file, {"objective.clip_high=0.3", "rewards.0={name: brier, weight: 2}"});
  CHECK(config.objective.clip_high == 0.3);
  CHECK(config.rewards.at(0).name == "brier");
  const std::string text = dump(config);
  const RunConfig back = load_run_config(dir.write("resolved.yaml", text));
  CHECK(dump(back) == text);
  CHECK((back.rewards == config.rewards));
  CHECK((back.advantage == config.advantage));
  CHECK(back.seed == 7);
}

TEST_CASE("the example configurations are valid") {
  int found = 0;
  for (const auto& entry : fs::recursive_directory_iterator(source_dir() / "examples")) {
    if (entry.path().extension() != ".yaml") continue;
    INFO(entry.path().string());
    CHECK_NOTHROW(load_run_config(entry.path()));
    ++found;
  }
  CHECK(found >= 2);
}

TEST_CASE("mutated configurations are read or refused, never worse") {
  const std::string good = read_bytes(source_dir() / "examples/wordnet/rl.yaml");
  std::mt19937_64 random(5);
  const std::string spice = "{}[]:-,#&*!|>'\"%@`?~\n \t\\0.e\xff";
  int refused = 0;
  for (int trial = 0; trial < 2000; ++trial) {
    std::string bytes = good;
    for (uint64_t change = 0, n = 1 + random() % 4; change < n; ++change) {
      const size_t place = random() % bytes.size();
      if (random() % 3 == 0)
        bytes.erase(place, 1 + random() % 20);
      else if (random() % 2 == 0)
        bytes[place] = spice[random() % spice.size()];
      else
        bytes.insert(place, 1, spice[random() % spice.size()]);
    }
    try {
      const std::string text = dump(read(bytes));
      REQUIRE(dump(read(text)) == text);
    } catch (const InputError& error) {
      REQUIRE(std::string(error.what()).rfind("run.yaml", 0) == 0);
      ++refused;
    }
  }
  CHECK(refused > 500);
  CHECK(refused < 2000);
}

TEST_CASE("the guide's table lists every key as it is") {
  const fs::path guide = source_dir() / "docs/guides/configuration.md";
  const std::string text = read_bytes(guide);
  // PLURAL_UPDATE_DOCS=1 rewrites the table.
  const size_t begin = text.find("| key |"), end = text.find("\n\n", begin);
  REQUIRE(begin != std::string::npos);
  const std::string rest = end == std::string::npos ? "" : text.substr(end + 1);
  if (std::getenv("PLURAL_UPDATE_DOCS")) std::ofstream(guide) << text.substr(0, begin) << table() << rest;
  CHECK(read_bytes(guide).find(table()) != std::string::npos);
}

TEST_CASE("paths expand home and variables, and nothing else") {
  const auto get = [](std::string_view name) -> std::optional<std::string> {
    if (name == "HOME") return "/home/me";
    if (name == "PLURAL_HOME") return "/cache";
    return std::nullopt;
  };
  CHECK(expand_path("~/a", get) == "/home/me/a");
  CHECK(expand_path("~", get) == "/home/me");
  CHECK(expand_path("${PLURAL_HOME}/b/${HOME}", get) == "/cache/b//home/me");
  CHECK(expand_path("a~/$b", get) == "a~/$b");
  CHECK(expand_path("~other/a", get) == "~other/a");
  CHECK_THAT(thrown<InputError>([&] { expand_path("${NOPE}/x", get); }), Contains("NOPE is not set"));
  CHECK_THAT(thrown<InputError>([&] { expand_path("${HOME", get); }), Contains("closing brace"));
}
