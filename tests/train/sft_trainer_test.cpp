// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <fstream>
#include <set>

#include "plural/error.h"
#include "tests/support/parity.h"
#include "tests/train/train_support.h"

using namespace plural;

namespace {

SftOptions small_options(const std::string& target) {
  SftOptions options;
  options.steps = 6;
  options.rows_per_step = 4;
  options.target = target;
  options.num_answers = {1, 2};
  options.confidences.levels = {.5};
  options.seed = 3;
  return options;
}

struct Run {
  std::unique_ptr<TransformerPolicy> policy;
  AdamW optimizer;
  SftTrainer trainer;
  Run(World& world, uint64_t seed, const SftOptions& options, at::ScalarType dtype = at::kFloat,
      OptimizerOptions optimizer_options = {.learning_rate = 1e-2})
      : policy(tiny_policy(world.dir.path(), seed, test_device(), dtype)),
        optimizer(policy->named_parameters(), optimizer_options),
        trainer({*policy, world.tokenizer, world.examples, world.format, optimizer}, options) {}
};

}  // namespace

TEST_CASE("one step's loss and gradients equal those of transformers", "[transformers]") {
  World world;
  SftOptions options = small_options("responses");
  options.rows_per_step = 10;  // all five examples, two responses each
  OptimizerOptions optimizer;
  optimizer.max_grad_norm = 0;
  Run run(world, 5, options, at::kFloat, optimizer);
  TempDir dir;
  run.policy->save(dir.path());
  nlohmann::json rows = nlohmann::json::array();
  for (const Example& example : world.examples)
    for (const Response& response : example.responses) {
      std::vector<TokenId> target = world.tokenizer.encode(response.text);
      target.push_back(*world.tokenizer.eos_id());
      rows.push_back({{"prompt", world.tokenizer.encode_chat(example.prompt)}, {"target", target}});
    }
  std::ofstream(dir / "rows.json") << rows.dump();
  const auto golden = run_parity_script("train_parity.py",
                                        "'" + dir.path().string() + "' '" + (dir / "rows.json").string() + "'");

  const StepReport report = run.trainer.step();
  CHECK(report.metrics.at("sft/rows") == 10);
  CHECK(report.metrics.at("loss") == Approx(golden["loss"].get<double>()).epsilon(2e-6));
  CHECK(report.metrics.at("optim/grad_norm") == Approx(golden["grad_norm"].get<double>()).epsilon(1e-4));
  size_t compared = 0;
  for (const auto& [name, value] : run.optimizer.state()) {
    if (!name.ends_with(".exp_avg")) continue;
    const std::string parameter = name.substr(0, name.size() - 8);
    INFO(parameter);
    REQUIRE(golden["gradients"].contains(parameter));
    const Tensor expected = at::tensor(golden["gradients"][parameter].get<std::vector<double>>(), at::kDouble);
    const Tensor got = (value.to(at::kCPU, at::kDouble) / .1).flatten();
    CHECK((got - expected).abs().max().item<double>() < 2e-5 * (1 + expected.abs().max().item<double>()));
    ++compared;
  }
  CHECK(compared == golden["gradients"].size());
}

TEST_CASE("fine-tuning resumes bit for bit", "[host]") {
  World world;
  for (const char* target : {"gold", "responses"})
    for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
      Run straight(world, 1, small_options(target), dtype);
      for (int i = 0; i < 3; ++i) straight.trainer.step();
      const TrainState state = clone(straight.trainer.state());
      std::vector<MetricMap> expected;
      while (!straight.trainer.done()) expected.push_back(timeless(straight.trainer.step().metrics));
      REQUIRE(expected.size() == 3);
      Run resumed(world, 2, small_options(target), dtype);
      resumed.trainer.restore(state);
      for (const MetricMap& metrics : expected) CHECK(timeless(resumed.trainer.step().metrics) == metrics);
      check_equal(straight.policy->named_parameters(), resumed.policy->named_parameters());
    }
}

TEST_CASE("the result does not depend on max_batch_tokens") {
  World world;
  SftOptions whole = small_options("responses"), cut = whole;
  cut.max_batch_tokens = 40;
  Run a(world, 1, whole, at::kDouble), b(world, 1, cut, at::kDouble);
  for (int i = 0; i < 2; ++i)
    CHECK(a.trainer.step().metrics.at("loss") == Approx(b.trainer.step().metrics.at("loss")).epsilon(1e-12));
}

TEST_CASE("fine-tuning on a device goes as on the CPU in float64") {
  World world;
  for (const char* target : {"gold", "responses"}) {
    INFO(target);
    const auto exact_policy = tiny_policy(world.dir.path(), 1, at::kCPU, at::kDouble);
    AdamW exact_optimizer(exact_policy->named_parameters(), {.learning_rate = 1e-2});
    SftTrainer exact({*exact_policy, world.tokenizer, world.examples, world.format, exact_optimizer},
                     small_options(target));
    Run run(world, 1, small_options(target));
    while (!run.trainer.done()) {
      const MetricMap expected = exact.step().metrics, found = run.trainer.step().metrics;
      CHECK(found.at("loss") == Approx(expected.at("loss")).epsilon(1e-4));
      CHECK(found.at("optim/grad_norm") == Approx(expected.at("optim/grad_norm")).epsilon(1e-3));
    }
  }
}

TEST_CASE("fine-tuning learns its targets") {
  World world;
  SftOptions options = small_options("responses");
  options.steps = 40;
  Run run(world, 1, options);
  const double first = run.trainer.step().metrics.at("loss");
  double last = 0;
  while (!run.trainer.done()) last = run.trainer.step().metrics.at("loss");
  CHECK(first == Approx(std::log(259.0)).margin(.3));
  CHECK(last < .5 * first);
}

TEST_CASE("responses of an example stay in one step") {
  World world;
  SftOptions options = small_options("responses");
  options.rows_per_step = 3;
  Run run(world, 1, options);
  CHECK(run.trainer.step().metrics.at("sft/rows") == 4);
  CHECK(run.trainer.state().data_position == 2);
}

TEST_CASE("targets are drawn afresh each epoch") {
  World world;
  world.examples = {make_example("ex", "x", {"b", "cc", "dddd"})};
  SftOptions options = small_options("gold");
  options.rows_per_step = 1, options.num_answers = {1};
  options.steps = 12;
  Run run(world, 1, options);
  std::set<double> lengths;
  while (!run.trainer.done()) lengths.insert(run.trainer.step().metrics.at("sft/target_tokens"));
  CHECK(lengths == std::set<double>{2, 3, 5});  // the answer and the end token
}

TEST_CASE("unusable examples and options are named", "[host]") {
  World world;
  world.examples[1].gold.clear();
  CHECK_THROWS_WITH(Run(world, 1, small_options("gold")), Catch::Contains("ex-yy") && Catch::Contains("gold"));
  world.examples[2].responses.clear();
  CHECK_THROWS_WITH(Run(world, 1, small_options("responses")), Catch::Contains("ex-zzz"));
  CHECK_THROWS_AS(Run(world, 1, small_options("best")), InputError);
  World no_letters;
  no_letters.examples[3].gold = {{"?!", {}, 1}};  // found before the example is drawn
  CHECK_THROWS_WITH(Run(no_letters, 1, small_options("gold")), Catch::Contains("example 'ex-w'"));
  World long_prompt;
  for (Example& example : long_prompt.examples) example.prompt[0].content = std::string(600, 'a');
  Run run(long_prompt, 1, small_options("gold"));
  CHECK_THROWS_WITH(run.trainer.step(), Catch::Contains("example 'ex-"));
}

TEST_CASE("targets are drawn by weight without replacement", "[host]") {
  Example example;
  example.gold = {{"x", {}, 3}, {"y", {}, 1}, {"The X", {}, 1}, {"z", {}, 0}, {"...", {}, 9}};
  // "The X" is "x" again: weight 4. "..." has no normal form.
  const ConfidenceTargets confidences = {.levels = {.2, .9}};
  std::map<std::string, int> counts;
  int high = 0;
  constexpr int kDraws = 20000;
  for (int i = 0; i < kDraws; ++i) {
    RandomStream stream(1, RandomPurpose::kTargets, static_cast<uint64_t>(i));
    const auto pair = draw_gold_answers(example, 2, confidences, stream);
    REQUIRE(pair.size() == 2);
    ++counts[pair[0].text + pair[1].text];
    high += pair[0].confidence == .9;
    CHECK((pair[0].confidence == .9 || pair[0].confidence == .2));
  }
  // First x: 4/5, then y nearly surely (z weighs 1e-6); first y: 1/5, then x.
  CHECK(counts["xy"] + counts["yx"] == Approx(kDraws).margin(5));
  CHECK(counts["xy"] == Approx(.8 * kDraws).margin(4 * std::sqrt(kDraws * .8 * .2)));
  CHECK(high == Approx(.5 * kDraws).margin(4 * std::sqrt(kDraws * .25)));
  RandomStream stream(1, RandomPurpose::kTargets);
  CHECK(draw_gold_answers(example, 9, confidences, stream).size() == 3);
  RandomStream one(5, RandomPurpose::kTargets), same(5, RandomPurpose::kTargets);
  CHECK(draw_gold_answers(example, 3, confidences, one)[0].text ==
        draw_gold_answers(example, 3, confidences, same)[0].text);
}

TEST_CASE("stated confidences follow the share of the gold weights", "[host]") {
  Example example;
  example.gold = {{"x", {}, 3}, {"y", {}, 1.5}, {"The X", {}, 1.5}, {"z", {}, .5}};  // x 4.5, y 1.5, z 0.5 of 6.5
  const auto by_name = [&](const ConfidenceTargets& confidences, int draw) {
    RandomStream stream(1, RandomPurpose::kTargets, static_cast<uint64_t>(draw));
    std::map<std::string, double> stated;
    for (const StatedAnswer& answer : draw_gold_answers(example, 3, confidences, stream))
      stated[answer.text] = answer.confidence;
    return stated;
  };
  ConfidenceTargets honest = {.levels = {.1, .2, .5, .7, .9}, .source = "weight"};
  ConfidenceTargets overconfident = honest;
  overconfident.power = .4;
  for (int draw = 0; draw < 20; ++draw) {  // whatever is drawn before, and so left out of the pool, changes nothing
    CHECK(by_name(honest, draw) == std::map<std::string, double>{{"x", .7}, {"y", .2}, {"z", .1}});  // .692 .231 .077
    // .692^.4 = .863, .231^.4 = .556, .077^.4 = .358 (nearer to .5 than to .2)
    CHECK(by_name(overconfident, draw) == std::map<std::string, double>{{"x", .9}, {"y", .5}, {"z", .5}});
  }
}
