// SPDX-License-Identifier: Apache-2.0
#include <ATen/core/grad_mode.h>

#include <atomic>
#include <chrono>
#include <cmath>
#include <thread>
#include <limits>
#include <set>

#include "lib/train/policy_update.h"
#include "lib/train/prompts.h"
#include "lib/train/token_entropy.h"
#include "plural/embedder.h"
#include "plural/error.h"
#include "tests/train/train_support.h"

using namespace plural;

namespace {

// Counts the forwards with gradient.
class CountingPolicy final : public Policy {
 public:
  explicit CountingPolicy(Policy& inner) : inner_(inner) {}
  PolicyOutput evaluate(const PackedBatch& batch, const EvaluateOptions& options) override {
    predictions += batch.predictions();
    return inner_.evaluate(batch, options);
  }
  NamedTensors named_parameters() override { return inner_.named_parameters(); }
  std::unique_ptr<Policy> frozen_copy() const override { return inner_.frozen_copy(); }
  void save(const std::filesystem::path& dir) const override { inner_.save(dir); }
  at::Device device() const override { return inner_.device(); }
  int64_t context_length() const override { return inner_.context_length(); }
  int64_t vocab_size() const override { return inner_.vocab_size(); }
  int64_t predictions = 0;

 private:
  Policy& inner_;
};

// The step that rewards are told, for their schedules.
class StepNumber final : public Reward {
 public:
  std::string name() const override { return "step_number"; }
  RewardOutput score(const RewardInput& input) const override {
    RewardOutput output;
    output.row = at::full({input.answers.rows}, static_cast<double>(input.step), at::kFloat);
    return output;
  }
};

// Notes what the policy's embedder says of one text at each step.
class AskPolicy final : public Reward {
 public:
  explicit AskPolicy(std::vector<Tensor>& said) : said_(said) {}
  std::string name() const override { return "ask_policy"; }
  RewardOutput score(const RewardInput& input) const override {
    const std::vector<std::string_view> texts = {"m"};
    said_.push_back(input.policy_embedder->embed(texts, at::kCPU));
    return {.row = at::arange(input.answers.rows, input.answers.confidence.options())};
  }

 private:
  std::vector<Tensor>& said_;
};

class BrokenObjective final : public Objective {
 public:
  std::string name() const override { return "broken"; }
  LossTerms loss(const ObjectiveInput& input) const override {
    return {input.log_prob.sum() * std::numeric_limits<double>::quiet_NaN(), {}};
  }
};

// Keeps what it was asked to judge.
class Witness final : public Reward {
 public:
  struct Seen {
    Tensor entropy, length;
    int64_t step, steps, max_new_tokens, vocab_size;
  };
  explicit Witness(std::vector<Seen>* seen) : seen_(seen) {}
  std::string name() const override { return "witness"; }
  bool needs_token_entropy() const override { return true; }
  RewardOutput score(const RewardInput& input) const override {
    seen_->push_back(
        {input.token_entropy, input.answers.length, input.step, input.steps, input.max_new_tokens, input.vocab_size});
    return {.row = at::zeros({input.answers.rows}, input.answers.confidence.options())};
  }

 private:
  std::vector<Seen>* seen_;
};

// K of each row as the rewards are told, and the prompts that the engine was given.
struct Asked {
  std::vector<int64_t> k;
  std::vector<std::vector<TokenId>> prompts;
};

class NoteK final : public Reward {
 public:
  explicit NoteK(Asked* asked) : asked_(asked) {}
  std::string name() const override { return "note_k"; }
  RewardOutput score(const RewardInput& input) const override {
    for (int64_t b = 0; b < input.answers.rows; ++b) asked_->k.push_back(input.answers.k[b].item<int64_t>());
    return {.row = at::arange(input.answers.rows, input.answers.confidence.options())};
  }

 private:
  Asked* asked_;
};

class NotingEngine final : public RolloutEngine {
 public:
  NotingEngine(RolloutEngine& inner, Asked* asked) : inner_(inner), asked_(asked) {}
  RolloutBatch generate(std::span<const std::vector<TokenId>> prompts, const SamplingOptions& options,
                        const RolloutKey& key) override {
    asked_->prompts.insert(asked_->prompts.end(), prompts.begin(), prompts.end());
    return inner_.generate(prompts, options, key);
  }

 private:
  RolloutEngine& inner_;
  Asked* asked_;
};

// Only prompts "x" and "yy" have rewards that differ.
class Picky final : public Reward {
 public:
  std::string name() const override { return "picky"; }
  RewardOutput score(const RewardInput& input) const override {
    std::vector<float> values;
    for (size_t b = 0; b < input.examples.size(); ++b) {
      const std::string& id = input.examples[b]->id;
      values.push_back(id == "ex-x" || id == "ex-yy" ? static_cast<float>(b % 4) : 1.f);
    }
    return {.row = at::tensor(values, at::kFloat)};
  }
};

// Keeps what it was given, and passes it on.
class Seeing final : public AdvantageEstimator {
 public:
  explicit Seeing(std::vector<AdvantageInput>* seen) : seen_(seen) {}
  std::string name() const override { return "seeing"; }
  bool corrects_off_policy() const override { return true; }
  AdvantageOutput estimate(const AdvantageInput& input) const override {
    seen_->push_back(input);
    seen_->back().answers = nullptr, seen_->back().score_subset = {}, seen_->back().score_confidences = {};
    return grpo_->estimate(input);
  }

 private:
  std::vector<AdvantageInput>* seen_;
  std::unique_ptr<AdvantageEstimator> grpo_ = builtin_advantages().make("grpo");
};

// Learns from prompt "ex-x" alone, whatever the rewards.
class OnlyX final : public AdvantageEstimator {
 public:
  std::string name() const override { return "only_x"; }
  bool credits_equal_rewards() const override { return true; }
  AdvantageOutput estimate(const AdvantageInput& input) const override {
    Tensor row = at::zeros_like(input.total);
    for (int64_t b = 0; b < row.size(0); ++b)
      if (input.answers->gold_count[b].item<int64_t>() == 3) row[b] = b % 2 == 0 ? 1 : -1;
    return {row};
  }
};

// An answer is the gold answer that the place of its last letter in the alphabet says.
class LastLetter final : public Matcher {
 public:
  std::string name() const override { return "last_letter"; }
  int64_t match(const Answer& candidate, const Example& example) const override {
    const char last = candidate.text.empty() ? ' ' : candidate.text.back();
    return last < 'a' || last > 'z' ? -1 : (last - 'a') % static_cast<int64_t>(example.gold.size());
  }
};

RlOptions small_options() {
  RlOptions options;
  options.steps = 6;
  options.prompts_per_step = 2;
  options.samples_per_prompt = 4;
  options.num_answers = {2};
  options.sampling.max_new_tokens = 6;
  options.seed = 9;
  return options;
}

// A trainer with a policy of its own in a shared world.
struct Run {
  std::unique_ptr<TransformerPolicy> policy;
  std::unique_ptr<Policy> reference;
  std::unique_ptr<RolloutEngine> engine;
  std::unique_ptr<Objective> objective;
  AdamW optimizer;
  RlTrainer trainer;

  Run(World& world, uint64_t seed, const RlOptions& options, at::ScalarType dtype = at::kFloat,
      const ObjectiveOptions& objective_options = {})
      : policy(tiny_policy(world.dir.path(), seed, at::kCPU, dtype)),
        reference(tiny_policy(world.dir.path(), 100, at::kCPU, dtype)->frozen_copy()),
        engine(make_local_engine(*policy, world.tokenizer)),
        objective(make_policy_gradient(objective_options)),
        optimizer(policy->named_parameters(), optimizer_options()),
        trainer({*policy, *engine, world.tokenizer, world.examples, world.format, *world.matcher, world.rewards,
                 *world.advantage, *objective, optimizer, reference.get()},
                options) {}
  static OptimizerOptions optimizer_options() {
    OptimizerOptions options;
    options.learning_rate = 2e-2, options.schedule = "cosine", options.warmup_steps = 1;
    return options;
  }
};

NamedTensors copy_of(Policy& policy) {
  NamedTensors copies;
  for (const auto& [name, value] : policy.named_parameters()) copies.emplace_back(name, value.detach().clone());
  return copies;
}

}  // namespace

TEST_CASE("rewards may ask the policy of each step how alike texts are") {
  World world;
  std::vector<Tensor> said;
  world.rewards.add(std::make_unique<AskPolicy>(said));
  Run run(world, 1, small_options());
  const std::vector<std::string_view> texts = {"m"};
  const Tensor before = make_policy_embedder(*run.policy, world.tokenizer)->embed(texts, at::kCPU);
  run.trainer.step();
  const Tensor after = make_policy_embedder(*run.policy, world.tokenizer)->embed(texts, at::kCPU);
  run.trainer.step();
  REQUIRE(said.size() == 2);
  CHECK(at::equal(said[0], before));
  CHECK(at::equal(said[1], after));
  CHECK_FALSE(at::allclose(before, after));
}

TEST_CASE("a step reports every metric and every row") {
  World world;
  Run run(world, 1, small_options());
  const StepReport report = run.trainer.step();
  CHECK(report.step == 1);
  for (const char* name : {"loss",
                           "reward/total/mean",
                           "reward/early_letters/mean",
                           "answers/format_rate",
                           "answers/coverage",
                           "answers/unique",
                           "rollout/tokens",
                           "rollout/length_mean",
                           "rollout/truncated",
                           "rollout/surprisal",
                           "policy/entropy",
                           "policy/ratio",
                           "policy/clip_low",
                           "policy/clip_high",
                           "policy/kl_old",
                           "policy/sampler_trainer_diff",
                           "policy/trained_tokens",
                           "optim/grad_norm",
                           "optim/learning_rate",
                           "optim/skipped",
                           "optim/updates",
                           "advantage/equal_groups",
                           "time/generate_s",
                           "time/update_s",
                           "time/step_s",
                           "rate/tokens_per_s"}) {
    INFO(name);
    REQUIRE(report.metrics.count(name) == 1);
    CHECK(std::isfinite(report.metrics.at(name)));
  }
  // One forward for sampling and training (promise 2), float32.
  CHECK(report.metrics.at("policy/sampler_trainer_diff") < 1e-4);
  CHECK(report.metrics.at("policy/ratio") == 1.0);
  CHECK(report.metrics.at("policy/entropy") == Approx(std::log(259.0)).margin(.2));  // random weights: near uniform
  CHECK(report.metrics.at("optim/learning_rate") == Approx(2e-2));

  double total = 0, advantage = 0;
  int64_t rows = 0;
  run.trainer.visit_rows([&](const RowRecord& row) {
    ++rows;
    total += row.total, advantage += row.advantage;
    REQUIRE(row.rewards.size() == 1);
    CHECK(row.rewards[0].first == "early_letters");
    CHECK(row.rewards[0].second == row.total);
    CHECK(row.example != nullptr);
    CHECK(row.completion->ids.size() <= 6);
    CHECK(row.answers != nullptr);
  });
  CHECK(rows == 8);
  CHECK(total / 8 == Approx(report.metrics.at("reward/total/mean")));
  CHECK(advantage == Approx(0).margin(1e-5));
}

TEST_CASE("examples come in the data's order, each with its own G rows, across epochs") {
  World world;
  Run run(world, 1, small_options());
  DataOrder order(static_cast<int64_t>(world.examples.size()), small_options().seed);
  int64_t drawn = 0;
  for (int step = 0; step < 4; ++step) {  // 8 draws of 5 examples
    run.trainer.step();
    std::vector<const Example*> seen, expected;
    run.trainer.visit_rows([&](const RowRecord& row) { seen.push_back(row.example); });
    for (int p = 0; p < 2; ++p) expected.insert(expected.end(), 4, &world.examples[order.at(drawn++).example]);
    CHECK(seen == expected);
  }
}

TEST_CASE("each step has its own random numbers, learning rate and place in the schedule of rewards") {
  World world;
  world.examples.resize(1);
  world.rewards = {};
  world.rewards.add(std::make_unique<StepNumber>());  // equal in every row: nothing is ever learned
  Run run(world, 1, small_options());
  std::set<std::vector<TokenId>> seen;
  for (int64_t step = 0; step < 3; ++step) {
    const StepReport report = run.trainer.step();
    CHECK(report.metrics.at("reward/step_number/mean") == step);
    CHECK(report.metrics.at("optim/learning_rate") ==
          Approx(2e-2 * schedule_factor(Run::optimizer_options(), step, small_options().steps)));
    run.trainer.visit_rows([&](const RowRecord& row) { seen.insert(row.completion->ids); });
  }
  CHECK(seen.size() == 24);  // the same prompt and weights: with one key the steps would repeat each other
}

TEST_CASE("rows of zero advantage cost no forward; a step without any changes nothing") {
  World world;
  world.rewards = {};
  world.rewards.add(std::make_unique<Constant>());
  const auto policy = tiny_policy(world.dir.path(), 1);
  const auto engine = make_local_engine(*policy, world.tokenizer);
  CountingPolicy counting(*policy);
  const auto objective = make_policy_gradient({});
  AdamW optimizer(policy->named_parameters(), {});
  RlTrainer trainer({counting, *engine, world.tokenizer, world.examples, world.format, *world.matcher, world.rewards,
                     *world.advantage, *objective, optimizer},
                    small_options());
  const NamedTensors before = copy_of(*policy);
  const StepReport report = trainer.step();
  CHECK(counting.predictions == 0);
  CHECK(report.metrics.at("optim/updates") == 0);
  CHECK(report.metrics.at("advantage/equal_groups") == 1);
  CHECK(report.step == 1);
  check_equal(before, copy_of(*policy));
  CHECK(optimizer.steps() == 0);

  // Two of four rows with an advantage: only their tokens are evaluated.
  const std::vector<TokenId> prompt = {1, 2, 3}, completion = {4, 5};
  const std::vector<float> sampler = {-1, -1};
  std::vector<UpdateRow> rows;
  for (double a : {1.0, 0.0, -1.0, 0.0}) rows.push_back({{prompt, completion}, sampler, a});
  update_policy({counting, nullptr, *objective, optimizer}, rows, {.max_new_tokens = 2, .learning_rate = 1e-3});
  CHECK(counting.predictions == 4);
}

TEST_CASE("rewards are told where the run is, and get token entropies when they ask for them") {
  World world;
  std::vector<Witness::Seen> seen;
  world.rewards = {};
  world.rewards.add(std::make_unique<Witness>(&seen));  // the same for all rows, so the weights stay
  RlOptions options = small_options();
  options.sampling.temperature = 1.5;
  Run run(world, 1, options);
  run.trainer.step();
  run.trainer.step();
  REQUIRE(seen.size() == 2);
  CHECK(seen[0].step == 0);
  CHECK(seen[1].step == 1);
  CHECK(seen[1].steps == 6);
  CHECK(seen[1].max_new_tokens == 6);
  CHECK(seen[1].vocab_size == 259);
  int64_t b = 0;
  run.trainer.visit_rows([&](const RowRecord& row) {
    const auto prompt = prompt_ids(*row.example, world.format, 2, world.tokenizer);
    const PackRow alone{prompt, row.completion->ids};
    const auto length = static_cast<int64_t>(row.completion->ids.size());
    CHECK(seen[1].length[b].item<int64_t>() == length);
    const Tensor own = token_entropy(*run.policy, {&alone, 1}, 1.5, 1)[0];
    CHECK(at::allclose(seen[1].entropy[b].narrow(0, 0, length), own, 0, 1e-5));
    ++b;
  });
  CHECK(b == 8);
}

TEST_CASE("of several K, one is drawn for each prompt, asked of it and judged by") {
  World world;
  Asked asked;
  world.rewards.add(std::make_unique<NoteK>(&asked));
  RlOptions options = small_options();
  options.num_answers = {1, 3};
  Run run(world, 1, options);
  NotingEngine engine(*run.engine, &asked);
  RlTrainer trainer({*run.policy, engine, world.tokenizer, world.examples, world.format, *world.matcher, world.rewards,
                     *world.advantage, *run.objective, run.optimizer, run.reference.get()},
                    options);
  std::vector<const Example*> examples;
  while (!trainer.done()) {
    trainer.step();
    trainer.visit_rows([&](const RowRecord& row) { examples.push_back(row.example); });
  }
  REQUIRE(asked.k.size() == 6 * 2 * 4);
  REQUIRE(examples.size() == asked.k.size());
  REQUIRE(asked.prompts.size() == 12);
  std::set<int64_t> seen;
  for (size_t b = 0; b < asked.k.size(); ++b) {
    CHECK(asked.prompts[b / 4] == prompt_ids(*examples[b], world.format, asked.k[b], world.tokenizer));
    seen.insert(asked.k[b]);
  }
  CHECK(seen == std::set<int64_t>{1, 3});
  options.num_answers = {};
  CHECK_THROWS_WITH((Run(world, 1, options)), Catch::Contains("num_answers: at least one"));
}

TEST_CASE("a step that is not finite is skipped, reported, and training goes on") {
  World world;
  Run run(world, 1, small_options());
  BrokenObjective broken;
  RlTrainer trainer({*run.policy, *run.engine, world.tokenizer, world.examples, world.format, *world.matcher,
                     world.rewards, *world.advantage, broken, run.optimizer},
                    small_options());
  const NamedTensors before = copy_of(*run.policy);
  const StepReport report = trainer.step();
  CHECK(report.metrics.at("optim/skipped") == 1);
  CHECK(report.metrics.at("optim/updates") == 0);
  check_equal(before, copy_of(*run.policy));
  CHECK(run.trainer.step().metrics.at("optim/skipped") == 0);
}

TEST_CASE("k steps, stop, resume, N - k steps equal N steps bit for bit") {
  World world;
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
    RlOptions options = small_options();
    options.passes = 2;
    Run straight(world, 1, options, dtype);
    for (int i = 0; i < 2; ++i) straight.trainer.step();
    TempDir folder;
    save_checkpoint(folder.path(), straight.trainer.state());
    std::vector<MetricMap> expected;
    while (!straight.trainer.done()) expected.push_back(timeless(straight.trainer.step().metrics));
    REQUIRE(expected.size() == 4);

    Run resumed(world, 77, options, dtype);  // other start weights: all must come from the checkpoint
    const auto state = load_newest_checkpoint(folder.path());
    REQUIRE(state);
    resumed.trainer.restore(*state);
    for (const MetricMap& metrics : expected) CHECK(timeless(resumed.trainer.step().metrics) == metrics);
    CHECK(resumed.trainer.done());
    check_equal(copy_of(*straight.policy), copy_of(*resumed.policy));
    check_equal(straight.optimizer.state(), resumed.optimizer.state());
  }
}

TEST_CASE("controllers resume bit for bit") {
  World world;
  ObjectiveOptions objective;
  objective.kl_weight = .1, objective.kl_target = .02, objective.kl_horizon = 20;
  objective.entropy_weight = .01, objective.entropy_target = 6;  // above ln 259: always paid
  Run straight(world, 1, small_options(), at::kFloat, objective);
  MetricMap before;
  for (int i = 0; i < 2; ++i) before = straight.trainer.step().metrics;
  CHECK(before.at("objective/kl_weight") != .1);
  CHECK(before.at("objective/entropy_weight") == Approx(.015));
  const TrainState state = clone(straight.trainer.state());
  const MetricMap expected = timeless(straight.trainer.step().metrics);
  Run resumed(world, 77, small_options(), at::kFloat, objective);
  resumed.trainer.restore(state);
  CHECK(timeless(resumed.trainer.step().metrics) == expected);
}

TEST_CASE("a KL in the reward is taken off before credit") {
  World world;
  Run plain(world, 1, small_options()),
      paid(world, 1, small_options(), at::kFloat, {.kl_weight = .5, .kl = "k1", .kl_in = "reward"});
  const MetricMap without = plain.trainer.step().metrics, with = paid.trainer.step().metrics;
  // The same completions: their reward is less by beta x KL a row.
  CHECK(with.at("reward/total/mean") ==
        Approx(without.at("reward/total/mean") - .5 * with.at("policy/kl_ref") * with.at("rollout/tokens") / 8)
            .margin(1e-5));
  CHECK(with.at("policy/kl_ref") != 0.0);
  CHECK(with.at("objective/kl_weight") == .5);
}

TEST_CASE("prompts whose rewards are all equal are replaced, up to a bound") {
  World world;
  RlOptions options = small_options();
  options.max_refills = 3;
  // Nothing differs: every round draws two fresh prompts, and the last ones stay.
  world.rewards = {};
  world.rewards.add(std::make_unique<Constant>());
  Run equal(world, 1, options);
  MetricMap metrics = equal.trainer.step().metrics;
  CHECK(metrics.at("rollout/refills") == 3);
  CHECK(metrics.at("rollout/prompts_drawn") == 8);
  CHECK(metrics.at("advantage/equal_groups") == 1);
  CHECK(equal.trainer.state().data_position == 8);
  int64_t rows = 0;
  equal.trainer.visit_rows([&](const RowRecord&) { ++rows; });
  CHECK(rows == 8);

  // Groups whose rewards differ are kept, others give way.
  World picky;
  picky.rewards = {};
  picky.rewards.add(std::make_unique<Picky>());
  options.max_refills = 20;
  Run run(picky, 1, options);
  metrics = run.trainer.step().metrics;
  CHECK(metrics.at("advantage/equal_groups") == 0);
  CHECK(metrics.at("rollout/prompts_drawn") > 2);
  run.trainer.visit_rows([&](const RowRecord& row) {
    CHECK((row.example->id == "ex-x" || row.example->id == "ex-yy"));
    CHECK(row.advantage == Approx(row.total - 1.5));
  });
}

TEST_CASE("an estimator that credits equal rewards says itself which prompts teach something") {
  World world;
  world.rewards = {};
  world.rewards.add(std::make_unique<Constant>());
  world.advantage = std::make_unique<OnlyX>();
  for (Example& example : world.examples)
    if (example.id != "ex-x") example.gold.push_back({"another", {}, 1});
  RlOptions options = small_options();
  options.max_refills = 20;
  Run run(world, 1, options);
  CHECK(run.trainer.step().metrics.at("rollout/prompts_drawn") > 2);
  run.trainer.visit_rows([&](const RowRecord& row) { CHECK(row.example->id == "ex-x"); });
}

namespace {

// Refills draw three prompts for one; what is over waits for the next step.
RlOptions thrifty_options() {
  RlOptions options = small_options();
  options.steps = 8;
  options.max_refills = 20, options.refill_factor = 3;
  options.carry_over = {.max_groups = 3, .max_staleness = 2};
  return options;
}

// Stops after `steps`, goes on from the checkpoint in another trainer, and must end as the one that went on.
void check_resume(World& world, const RlOptions& options, int64_t steps) {
  Run straight(world, 1, options);
  for (int64_t i = 0; i < steps; ++i) straight.trainer.step();
  TempDir folder;
  save_checkpoint(folder.path(), straight.trainer.state());
  Run resumed(world, 77, options);
  resumed.trainer.restore(*load_newest_checkpoint(folder.path()));
  while (!straight.trainer.done()) {
    INFO("step " << straight.trainer.state().step);
    CHECK(timeless(straight.trainer.step().metrics) == timeless(resumed.trainer.step().metrics));
  }
  check_equal(copy_of(*straight.policy), copy_of(*resumed.policy));
}

}  // namespace

TEST_CASE("groups that refills drew too many of are learned from later, as they were sampled") {
  World world;
  world.rewards = {};
  world.rewards.add(std::make_unique<Picky>());
  std::vector<AdvantageInput> seen;
  world.advantage = std::make_unique<Seeing>(&seen);
  Run run(world, 1, thrifty_options());
  double carried = 0, waiting = 0, spared = 0;
  int64_t taken_over = 0;
  while (!run.trainer.done()) {
    const MetricMap metrics = run.trainer.step().metrics;
    CHECK(metrics.at("advantage/equal_groups") == 0);
    carried = metrics.at("rollout/carried_groups");
    CHECK(carried == std::min(waiting, 2.0));
    CHECK((metrics.at("rollout/prompts_drawn") == 0) == (carried == 2));
    waiting = std::min(3.0, waiting - carried + metrics.at("rollout/spare_groups"));
    spared += metrics.at("rollout/spare_groups");
    taken_over += static_cast<int64_t>(carried);
    int64_t rows = 0;
    run.trainer.visit_rows([&](const RowRecord& row) {
      CHECK((row.example->id == "ex-x" || row.example->id == "ex-yy"));
      ++rows;
    });
    CHECK(rows == 8);
    // The policy has moved on since the groups that come first were sampled, and only for these.
    const Tensor moved = (seen.back().log_prob - seen.back().sampler_log_prob).abs();
    const auto first = static_cast<int64_t>(carried) * 4;
    if (first > 0) CHECK(moved.narrow(0, 0, first).max().item<double>() > 1e-2);
    if (first < 8) CHECK(moved.narrow(0, first, 8 - first).max().item<double>() < 1e-3);
  }
  CHECK(spared > 0);
  CHECK(taken_over > 0);
  for (int64_t steps = 1; steps < 8; ++steps) check_resume(world, thrifty_options(), steps);  // groups wait after some

  // Who corrects for it does so alone.
  CHECK_THROWS_WITH((Run(world, 1, thrifty_options(), at::kFloat, {.importance = "token"})),
                    Catch::Contains("seeing") && Catch::Contains("objective.importance"));
  world.advantage = builtin_advantages().make("grpo");
  Run weighted(world, 1, thrifty_options(), at::kFloat, {.importance = "token"});
  CHECK_NOTHROW(weighted.trainer.step());
}

TEST_CASE("a curriculum learns the pass rates of what it draws, and resumes bit for bit") {
  World world;
  RlOptions options = small_options();
  options.curriculum.measure = "reward", options.curriculum.target = .1;
  Run run(world, 1, options);
  std::set<std::string> seen;
  for (int64_t step = 1; step <= 3; ++step) {
    const MetricMap metrics = run.trainer.step().metrics;
    if (step == 1) CHECK(metrics.at("curriculum/pass_rate") == Approx(metrics.at("reward/total/mean")));
    run.trainer.visit_rows([&](const RowRecord& row) { seen.insert(row.example->id); });
    CHECK(metrics.at("curriculum/seen") == Approx(static_cast<double>(seen.size()) / 5));
  }
  CHECK(seen.size() == 5);  // unseen ones first
  check_resume(world, options, 2);
  check_resume(world, options, 4);
  // Replaced prompts count, too: they were all wrong, or all right.
  World picky;
  picky.rewards = {};
  picky.rewards.add(std::make_unique<Picky>());
  options.max_refills = 20;
  Run refilled(picky, 1, options);
  const MetricMap metrics = refilled.trainer.step().metrics;
  REQUIRE(metrics.at("rollout/prompts_drawn") > 2);
  CHECK(metrics.at("curriculum/seen") == Approx(std::min(5.0, metrics.at("rollout/prompts_drawn")) / 5));
  options.max_refills = 0;
  World lettered;
  lettered.matcher = std::make_unique<LastLetter>();
  for (const std::string measure : {"any_correct", "coverage"}) {
    options.curriculum.measure = measure;
    Run other(lettered, 1, options);
    const MetricMap first = other.trainer.step().metrics;
    CHECK(first.at("answers/" + measure) > 0);
    CHECK(first.at("curriculum/pass_rate") == Approx(first.at("answers/" + measure)));
  }
}

TEST_CASE("correct completions are trained on again, and a run with them resumes bit for bit") {
  World world;
  world.matcher = std::make_unique<LastLetter>();
  RlOptions options = small_options();
  options.steps = 8, options.num_answers = {1};
  for (TokenId letter = 'a'; letter <= 'z'; ++letter) options.sampling.stop_ids.push_back(letter);
  options.replay = {.weight = .5, .max_modes = 3, .modes_per_step = 2};
  Run run(world, 1, options);
  MetricMap metrics = run.trainer.step().metrics;
  const double found = metrics.at("replay/new_modes");
  CHECK(found > 0);
  CHECK(metrics.at("replay/rows") == 0);  // of earlier steps there are none
  CHECK(metrics.at("replay/modes") == found);
  CHECK(metrics.count("replay/nll") == 0);
  double rows = 0, modes = found;
  while (!run.trainer.done()) {
    metrics = run.trainer.step().metrics;
    modes += metrics.at("replay/new_modes");
    CHECK(metrics.at("replay/modes") == modes);
    CHECK((metrics.at("replay/rows") > 0) == (metrics.count("replay/nll") == 1));
    CHECK(metrics.at("replay/rows") <= 4);  // two prompts, two modes of each
    rows += metrics.at("replay/rows");
  }
  CHECK(rows > 0);
  CHECK(modes <= 15);
  check_resume(world, options, 4);

  // Without any advantage what was found is still learned, and grows likelier.
  world.rewards = {};
  world.rewards.add(std::make_unique<Constant>());
  world.examples.resize(1);
  options.steps = 12, options.prompts_per_step = 1, options.samples_per_prompt = 16;
  Run equal(world, 1, options);
  CHECK(equal.trainer.step().metrics.at("optim/updates") == 0);
  const double before = equal.trainer.step().metrics.at("replay/nll");
  while (!equal.trainer.done()) metrics = equal.trainer.step().metrics;
  CHECK(metrics.at("optim/updates") == 1);
  CHECK(metrics.at("replay/nll") < before - 1);
}

TEST_CASE("truncated rows do not count when masked") {
  World world;
  Run run(world, 1, small_options(), at::kFloat, {.mask_truncated = true});
  const MetricMap metrics = run.trainer.step().metrics;
  double kept = 0;
  run.trainer.visit_rows([&](const RowRecord& row) {
    if (row.completion->finish == FinishReason::kStop && row.advantage != 0) kept += row.completion->ids.size();
  });
  CHECK(metrics.at("policy/trained_tokens") == kept);
  CHECK(metrics.at("rollout/truncated") > 0);
}

TEST_CASE("ReMax compares with the greedy completion") {
  World world;
  world.advantage = builtin_advantages().make("remax");
  Run run(world, 1, small_options());
  run.trainer.step();
  // Rows of one prompt share a baseline, and it is the reward of some completion: a share of at most 6 bytes.
  std::map<std::string, double> baseline;
  run.trainer.visit_rows([&](const RowRecord& row) {
    const double b = row.total - row.advantage;
    if (!baseline.emplace(row.example->id, b).second) CHECK(baseline.at(row.example->id) == Approx(b).margin(1e-6));
    CHECK(b >= -1e-6);
    CHECK(b <= 1 + 1e-6);
  });
  CHECK(baseline.size() == 2);
}

namespace {

// Each answer is worth the share of early letters in it.
class AnswerLetters final : public Reward {
 public:
  std::string name() const override { return "answer_letters"; }
  RewardOutput score(const RewardInput& input) const override {
    return {.row = score_subset(input, at::ones_like(input.answers.present))};
  }
  Tensor score_subset(const RewardInput& input, const Tensor& keep) const override {
    std::vector<float> values;
    for (int64_t b = 0; b < input.answers.rows; ++b) {
      float sum = 0;
      const auto& answers = input.answers.sets[static_cast<size_t>(b)].answers;
      for (size_t k = 0; k < answers.size(); ++k) {
        float good = 0;
        for (char c : answers[k].text) good += (c >= 'a' && c <= 'm') || (c >= 'A' && c <= 'M') ? 1 : 0;
        if (!answers[k].text.empty() && keep[b][static_cast<int64_t>(k)].item<bool>())
          sum += good / static_cast<float>(answers[k].text.size());
      }
      values.push_back(sum);
    }
    return at::tensor(values, at::kFloat);
  }
};

}  // namespace

TEST_CASE("credit for single answers reaches the update, and learns") {
  World world;
  world.rewards = {};
  world.rewards.add(std::make_unique<AnswerLetters>());
  world.advantage = builtin_advantages().make("set_credit");
  RlOptions options = small_options();
  options.steps = 40, options.samples_per_prompt = 16;
  Run run(world, 1, options);
  const MetricMap first = run.trainer.step().metrics;
  CHECK(first.at("advantage/abs_mean") > 0);
  double last = 0;
  while (!run.trainer.done()) last = run.trainer.step().metrics.at("reward/total/mean");
  CHECK(first.at("reward/total/mean") < .3);
  CHECK(last > .8);
  // An objective that clips whole rows cannot take it.
  CHECK_THROWS_WITH(Run(world, 1, options, at::kFloat, {.ratio = "sequence"}),
                    Catch::Contains("set_credit") && Catch::Contains("sequence_token"));
  CHECK_THROWS_WITH(Run(world, 1, options, at::kFloat, {.surrogate = "gmpo"}), Catch::Contains("gmpo"));
  CHECK_NOTHROW(Run(world, 1, options, at::kFloat, {.ratio = "sequence_token"}));
  // Without a reward for parts there is nothing to credit.
  World whole;
  whole.advantage = builtin_advantages().make("set_credit");
  Run lost(whole, 1, small_options());
  CHECK_THROWS_WITH(lost.trainer.step(), Catch::Contains("no reward judges a part of a set"));
}

TEST_CASE("a state that does not fit is refused by name") {
  World world;
  Run run(world, 1, small_options());
  TrainState state = clone(run.trainer.state());
  const std::string name = state.parameters.front().first;
  state.parameters.front().second = at::zeros({2});
  CHECK_THROWS_WITH(run.trainer.restore(state), Catch::Contains(name));
  state.parameters.erase(state.parameters.begin());
  CHECK_THROWS_WITH(run.trainer.restore(state), Catch::Contains("'" + name + "' is missing"));
}

TEST_CASE("a step that throws leaves the trainer as it was") {
  World world;
  RlOptions options = small_options();
  Run straight(world, 1, options), stopped(world, 1, options);
  stopped.engine->set_progress([](int64_t, int64_t, int64_t) { return false; });
  CHECK_THROWS_AS(stopped.trainer.step(), Interrupted);
  stopped.engine->set_progress({});
  for (int i = 0; i < 2; ++i)
    CHECK(timeless(stopped.trainer.step().metrics) == timeless(straight.trainer.step().metrics));
}

TEST_CASE("unusable settings and prompts say what to do") {
  World world;
  RlOptions greedy = small_options();
  greedy.sampling.temperature = 0;
  CHECK_THROWS_WITH(Run(world, 1, greedy), Catch::Contains("temperature"));
  World long_prompt;
  for (Example& example : long_prompt.examples) example.prompt[0].content = std::string(600, 'a');
  Run run(long_prompt, 1, small_options());
  CHECK_THROWS_WITH(run.trainer.step(), Catch::Contains("example 'ex-") && Catch::Contains("512"));
}

TEST_CASE("RL raises a reward") {
  World world;
  RlOptions options = small_options();
  options.steps = 40, options.prompts_per_step = 2, options.samples_per_prompt = 16;
  Run run(world, 1, options);
  const double first = run.trainer.step().metrics.at("reward/total/mean");
  double last = 0;
  while (!run.trainer.done()) last = run.trainer.step().metrics.at("reward/total/mean");
  CHECK(first < .3);  // 26 of 259 tokens
  CHECK(last > .8);
}

namespace {

/// EarlyLetters as a reward that waits; it notes when it was first called, and may hang.
class SlowLetters final : public Reward {
 public:
  struct Log {
    std::atomic<int> calls{0};
    std::atomic<int64_t> rows{0};
    std::atomic<bool> hang{false};
  };
  explicit SlowLetters(std::shared_ptr<Log> log) : log_(std::move(log)) {}
  std::string name() const override { return "early_letters"; }
  bool slow() const override { return true; }
  double fail_value() const override { return 0.125; }
  RewardOutput score(const RewardInput& input) const override {
    ++log_->calls;
    log_->rows += input.answers.rows;
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    while (log_->hang) std::this_thread::sleep_for(std::chrono::milliseconds(5));
    return letters_.score(input);
  }

 private:
  std::shared_ptr<Log> log_;
  EarlyLetters letters_;
};

}  // namespace

TEST_CASE("a slow reward works beside generation and changes not one bit") {
  World fast, slow;
  const auto log = std::make_shared<SlowLetters::Log>();
  slow.rewards = {};
  slow.rewards.add(std::make_unique<SlowLetters>(log));
  RlOptions options = small_options();
  options.sampling.max_rows = 1;  // prompts finish one after the other
  Run a(fast, 1, options), b(slow, 1, options);
  // Rows of the second prompt wait until the first prompt's are being scored: were they not, this would be seen below.
  int calls_before = 0;
  b.engine->set_progress([&](int64_t done, int64_t all, int64_t) {
    for (int i = 0; i < 1000 && done >= options.samples_per_prompt && done < all && log->calls == calls_before; ++i)
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    return true;
  });
  for (int step = 0; step < 3; ++step) {
    calls_before = log->calls;
    const MetricMap expected = timeless(a.trainer.step().metrics);
    MetricMap found = timeless(b.trainer.step().metrics);
    CHECK(found.at("reward/early_letters/failed_rows") == 0);
    found.erase("reward/early_letters/failed_rows");
    CHECK(found == expected);
    CHECK(log->calls == calls_before + 2);
  }
  check_equal(copy_of(*a.policy), copy_of(*b.policy));
  const int64_t rows = options.prompts_per_step * options.samples_per_prompt;
  CHECK(log->rows == 3 * rows);
}

namespace {

/// What the text of a completion is worth, in two of the five examples; the same in the others. Fast or slow, and
/// counts the rows that it is asked about.
class PickyBytes final : public Reward {
 public:
  PickyBytes(bool slow, std::shared_ptr<std::atomic<int64_t>> rows) : slow_(slow), rows_(std::move(rows)) {}
  std::string name() const override { return "picky"; }
  bool slow() const override { return slow_; }
  RewardOutput score(const RewardInput& input) const override {
    std::vector<float> values;
    for (size_t b = 0; b < input.examples.size(); ++b) {
      int sum = 0;
      for (const char byte : input.completions[b]) sum += static_cast<unsigned char>(byte);
      const std::string& id = input.examples[b]->id;
      values.push_back(id == "ex-x" || id == "ex-yy" ? static_cast<float>(sum % 5) : 1.f);
    }
    *rows_ += input.answers.rows;
    RewardOutput out{.row = at::tensor(values)};
    if (slow_) out.metrics["asked"] = static_cast<double>(values.size());
    return out;
  }

 private:
  bool slow_;
  std::shared_ptr<std::atomic<int64_t>> rows_;
};

}  // namespace

TEST_CASE("slow rewards are asked once about a row, however many rounds and choices a step takes") {
  World fast, slow;
  const auto rows = std::make_shared<std::atomic<int64_t>>(0);
  fast.rewards = {}, slow.rewards = {};
  fast.rewards.add(std::make_unique<PickyBytes>(false, std::make_shared<std::atomic<int64_t>>(0)));
  slow.rewards.add(std::make_unique<PickyBytes>(true, rows));
  RlOptions options = small_options();
  options.max_refills = 20, options.refill_factor = 3;
  options.carry_over = {.max_groups = 3, .max_staleness = 2};
  Run a(fast, 1, options), b(slow, 1, options);
  double refills = 0, spare = 0;
  while (!a.trainer.done()) {
    const MetricMap expected = timeless(a.trainer.step().metrics);
    *rows = 0;
    MetricMap found = timeless(b.trainer.step().metrics);
    const double groups = found.at("rollout/prompts_drawn") + found.at("rollout/carried_groups");
    CHECK(static_cast<double>(*rows) <= groups * 4);
    CHECK(found.at("reward/picky/asked") == static_cast<double>(*rows));
    CHECK(found.at("reward/picky/failed_rows") == 0);
    refills += found.at("rollout/refills");
    spare += found.at("rollout/spare_groups");
    found.erase("reward/picky/asked");
    found.erase("reward/picky/failed_rows");
    CHECK(found == expected);
  }
  CHECK(refills > 0);
  CHECK(spare > 0);
}

namespace {

/// Never answers, until it is asked to stop.
class EndlessMatcher final : public Matcher {
 public:
  std::string name() const override { return "endless"; }
  int64_t match(const Answer&, const Example&) const override { return -1; }
  MatchVerdicts match_all(std::span<const MatchQuestion> questions, const std::stop_token& stop) const override {
    while (!stop.stop_requested()) std::this_thread::sleep_for(std::chrono::milliseconds(5));
    return {.gold = std::vector<int64_t>(questions.size(), -1)};
  }
};

}  // namespace

TEST_CASE("a request to stop ends the wait for a matcher, and with it the step") {
  World world;
  world.matcher = std::make_unique<EndlessMatcher>();
  world.rewards = {};
  world.rewards.add(std::make_unique<SlowLetters>(std::make_shared<SlowLetters::Log>()));  // waits for it, too
  RlOptions options = small_options();
  std::stop_source stop;
  options.stop = stop.get_token();
  Run run(world, 1, options);
  const std::jthread later([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(300));
    stop.request_stop();
  });
  CHECK_THROWS_AS(run.trainer.step(), Interrupted);
  CHECK(run.trainer.state().step == 0);
}

TEST_CASE("a slow reward that hangs costs its rows and no more") {
  World world;
  const auto log = std::make_shared<SlowLetters::Log>();
  world.rewards = {};
  world.rewards.add(std::make_unique<SlowLetters>(log), 1.0, "", 0.1);
  Run run(world, 1, small_options());
  log->hang = true;
  const StepReport report = run.trainer.step();
  const auto rows = static_cast<double>(small_options().prompts_per_step * small_options().samples_per_prompt);
  CHECK(report.metrics.at("reward/early_letters/failed_rows") == rows);
  CHECK(report.metrics.at("reward/total/mean") == Approx(0.125));
  CHECK(report.metrics.at("optim/updates") == 0);  // all equal: nothing to learn from
  REQUIRE(report.notes.size() == 1);
  CHECK_THAT(report.notes[0], Catch::Contains("deadline_s"));
  log->hang = false;
  while (world.rewards.terms()[0].stuck->load()) std::this_thread::sleep_for(std::chrono::milliseconds(5));
  CHECK(run.trainer.step().metrics.at("reward/early_letters/failed_rows") == 0);
}
