// SPDX-License-Identifier: Apache-2.0
// The critic: its loss by hand, its update written out, what it must not touch, and what it has to learn.
#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <cmath>
#include <cstdlib>
#include <fstream>

#include "lib/train/critic_update.h"
#include "lib/train/policy_update.h"
#include "lib/train/prompts.h"
#include "plural/error.h"
#include "plural/run.h"
#include "tests/train/train_support.h"

using namespace plural;

namespace {

const std::vector<const char*> kTrunks = {"shared", "stopped", "own"};

CriticOptions critic_options(const std::string& trunk) {
  CriticOptions options;
  options.trunk = trunk == "own" ? "own" : "shared";
  options.stop_gradient = trunk == "stopped";
  options.optimizer.learning_rate = 1e-2;
  return options;
}

std::unique_ptr<Critic> make_critic(const World& world, Policy& policy, const CriticOptions& options,
                                    at::ScalarType dtype = at::kFloat, uint64_t seed = 50) {
  if (options.trunk == "shared") return std::make_unique<Critic>(policy, options);
  return std::make_unique<Critic>(tiny_policy(world.dir.path(), seed, test_device(), dtype), options);
}

RlOptions small_options() {
  RlOptions options;
  options.steps = 6;
  options.prompts_per_step = 2;
  options.samples_per_prompt = 4;
  options.passes = 2;
  options.num_answers = {2};
  options.sampling.max_new_tokens = 6;
  options.seed = 9;
  return options;
}

// A PPO trainer with a policy and a critic of its own in a shared world.
struct PpoRun {
  std::unique_ptr<TransformerPolicy> policy;
  std::unique_ptr<Policy> reference;
  std::unique_ptr<Critic> critic;
  std::unique_ptr<RolloutEngine> engine;
  std::unique_ptr<Objective> objective;
  AdamW optimizer;
  RlTrainer trainer;

  PpoRun(World& world, uint64_t seed, const CriticOptions& critic_options, const RlOptions& options,
         const ObjectiveOptions& objective_options = {}, at::ScalarType dtype = at::kFloat)
      : policy(tiny_policy(world.dir.path(), seed, test_device(), dtype)),
        reference(tiny_policy(world.dir.path(), 100, test_device(), dtype)->frozen_copy()),
        critic(make_critic(world, *policy, critic_options, dtype, seed + 1)),
        engine(make_local_engine(*policy, world.tokenizer)),
        objective(make_policy_gradient(objective_options)),
        optimizer(policy->named_parameters(), {.learning_rate = 2e-2, .schedule = "cosine", .warmup_steps = 1}),
        trainer({*policy, *engine, world.tokenizer, world.examples, world.format, *world.matcher, world.rewards,
                 *world.advantage, *objective, optimizer, reference.get(), critic.get()},
                options) {}
};

NamedTensors copy_of(const NamedTensors& live) {
  NamedTensors copies;
  for (const auto& [name, value] : live) copies.emplace_back(name, value.detach().clone());
  return copies;
}

double largest_difference(const NamedTensors& a, const NamedTensors& b) {
  REQUIRE(a.size() == b.size());
  double largest = 0;
  for (size_t i = 0; i < a.size(); ++i)
    largest = std::max(largest, (a[i].second - b[i].second).abs().max().item<double>());
  return largest;
}

void use_gae(World& world, const std::string& options = "{}") {
  world.advantage = builtin_advantages().make("gae", parse_yaml(options, "test.yaml"));
}

}  // namespace

TEST_CASE("the value loss and its gradient by hand") {
  const auto doubles = [](const std::vector<double>& x) { return at::tensor(x, at::kDouble).to(test_device()); };
  const Tensor value = doubles({.5, 1.0, 1.0, 0.0}).requires_grad_();
  // Inside the range; outside it on the far side of the return (the error of the clipped value is the smaller one);
  // outside it towards the return (that of the clipped one is larger: nothing to gain); at rest.
  const Tensor old_value = doubles({.4, .5, .5, 0.0}), returns = doubles({1.0, 0.0, 1.2, 0.0});
  const ValueLoss clipped = value_loss(value, old_value, returns, .2);
  // Errors .25, 1, (.7 - 1.2)^2 = .25 instead of .04, 0.
  CHECK(clipped.loss.item<double>() == Approx((.25 + 1 + .25) / 2).epsilon(1e-12));
  CHECK(clipped.clipped.item<double>() == 1);
  clipped.loss.backward();
  CHECK(at::allclose(value.grad(), doubles({-.5, 1.0, 0.0, 0.0}), 0, 1e-12));

  value.mutable_grad() = Tensor();
  const ValueLoss plain = value_loss(value, old_value, returns, 0);
  CHECK(plain.loss.item<double>() == Approx((.25 + 1 + .04) / 2).epsilon(1e-12));
  CHECK(plain.clipped.item<double>() == 0);
  plain.loss.backward();
  CHECK(at::allclose(value.grad(), doubles({-.5, 1.0, -.2, 0.0}), 0, 1e-12));
  CHECK_THROWS_AS(value_loss(value, old_value, doubles({1}), 0), CheckError);
}

namespace {

struct TestRow {
  std::vector<TokenId> prompt, completion;
  std::vector<double> advantage, value, returns;
};

// The third row has no advantage, the fourth no tokens; values and returns lie on both sides of what a new head says.
const std::vector<TestRow> kRows = {{{1, 2, 3}, {10, 20, 30}, {1, -.5, .25}, {.3, .3, 0}, {1, -1, .4}},
                                    {{1, 2, 3}, {11, 12}, {-1, .5}, {-.3, .05}, {-1, .2}},
                                    {{200, 5}, {42, 43, 44, 45}, {0, 0, 0, 0}, {.2, .1, 0, -.1}, {1, 1, 1, 1}},
                                    {{200, 5}, {}, {}, {}, {}},
                                    {{200, 5}, {46}, {.75}, {0}, {.5}}};

std::vector<UpdateRow> update_rows(const std::vector<float>& sampler) {
  std::vector<UpdateRow> rows;
  for (const TestRow& row : kRows)
    rows.push_back({.ids = {row.prompt, row.completion},
                    .sampler_log_probs = std::span(sampler).first(row.completion.size()),
                    .token_advantage = row.advantage,
                    .value = row.value,
                    .returns = row.returns});
  return rows;
}

// States that predict the row's completion, [T, E].
Tensor states(Policy& policy, const TestRow& row) {
  std::vector<TokenId> ids = row.prompt;
  ids.insert(ids.end(), row.completion.begin(), row.completion.end());
  const PackRow whole{ids, {}};
  return policy.hidden(pack_rows({&whole, 1}).to(test_device()))
      .narrow(0, static_cast<int64_t>(row.prompt.size()) - 1, static_cast<int64_t>(row.completion.size()));
}

// One pass, token by token: -A ln p and w/2 max of the two squared errors, each a mean over the 10 tokens. Also counts
// the clipped tokens and sums the value loss.
Tensor written_out(TransformerPolicy& policy, Policy& trunk, const Tensor& weight, const Tensor& bias,
                   const CriticOptions& options, double& value_sum, double& clipped) {
  const Tensor embedding = policy.named_parameters().front().second;  // tied: also the head
  const auto scalar = at::device(test_device()).dtype(at::kDouble);
  Tensor sum = at::zeros({}, scalar);
  for (const TestRow& row : kRows) {
    if (row.completion.empty()) continue;
    const Tensor log_p = at::log_softmax(states(policy, row).matmul(embedding.t()), 1);
    Tensor seen = states(trunk, row);
    if (options.stop_gradient) seen = seen.detach();
    for (size_t t = 0; t < row.completion.size(); ++t) {
      const auto at = static_cast<int64_t>(t);
      sum = sum - row.advantage[t] * log_p[at][row.completion[t]];
      const Tensor value = (seen[at] * weight[0]).sum() + bias[0];
      const double v = value.item<double>(), low = row.value[t] - options.value_clip,
                   high = row.value[t] + options.value_clip, bound = std::min(std::max(v, low), high);
      const bool clip = std::pow(bound - row.returns[t], 2) > std::pow(v - row.returns[t], 2);
      const Tensor error = clip ? at::scalar_tensor(std::pow(bound - row.returns[t], 2), scalar)
                                : (value - row.returns[t]).pow(2);
      sum = sum + options.value_weight * error / 2;
      value_sum += error.item<double>() / 2;
      clipped += clip ? 1 : 0;
    }
  }
  return sum / 10;
}

}  // namespace

TEST_CASE("policy and critic in an update of several passes equal their formulas written out") {
  World world;
  for (const std::string trunk : kTrunks) {
    INFO(trunk);
    CriticOptions options = critic_options(trunk);
    options.value_clip = .1, options.value_weight = .7, options.optimizer.max_grad_norm = 0;
    const OptimizerOptions policy_options = {.max_grad_norm = 0};
    const auto policy = tiny_policy(world.dir.path(), 3, test_device(), at::kDouble);
    const auto twin = tiny_policy(world.dir.path(), 3, test_device(), at::kDouble);
    const auto own_twin = tiny_policy(world.dir.path(), 50, test_device(), at::kDouble);
    const auto critic = make_critic(world, *policy, options, at::kDouble);
    const auto objective = make_policy_gradient({.surrogate = "reinforce"});
    AdamW optimizer(policy->named_parameters(), policy_options),
        twin_optimizer(twin->named_parameters(), policy_options);
    const auto doubles = at::device(test_device()).dtype(at::kDouble);
    const Tensor weight = at::zeros({1, 32}, doubles).requires_grad_(), bias = at::zeros({1}, doubles).requires_grad_();
    NamedTensors twin_critic = {{"head.weight", weight}, {"head.bias", bias}};
    if (trunk == "own")
      for (const auto& [name, value] : own_twin->named_parameters()) twin_critic.emplace_back("trunk." + name, value);
    AdamW twin_critic_optimizer(twin_critic, options.optimizer);

    const std::vector<float> sampler(10, -1.0F);
    const MetricMap metrics = update_policy(
        {*policy, nullptr, *objective, optimizer, critic.get()}, update_rows(sampler),
        {.passes = 3, .max_batch_tokens = 7, .max_new_tokens = 4, .learning_rate = 5e-3, .critic_learning_rate = 2e-2});
    double value_sum = 0, clipped = 0;
    for (int pass = 0; pass < 3; ++pass) {
      Policy& seen = trunk == "own" ? *own_twin : *twin;
      written_out(*twin, seen, weight, bias, options, value_sum, clipped).backward();
      twin_optimizer.step(5e-3);
      twin_critic_optimizer.step(2e-2);
    }
    CHECK(largest_difference(policy->named_parameters(), twin->named_parameters()) < 1e-9);
    CHECK(largest_difference(critic->named_parameters(), twin_critic) < 1e-9);
    CHECK(clipped > 0);
    CHECK(metrics.at("value/loss") == Approx(value_sum / 30).epsilon(1e-9));
    CHECK(metrics.at("value/clip_fraction") == Approx(clipped / 30));
    CHECK(metrics.at("value/mean") == Approx(.055));
    CHECK(metrics.at("value/return_mean") == Approx(.41));
    // 1 - Var(R - V) / Var(R), by hand: R - V = .7 -1.3 .4 -.7 .15 .8 .9 1 1.1 .5, R = 1 -1 .4 -1 .2 1 1 1 1 .5.
    CHECK(metrics.at("value/explained_variance") == Approx(1 - 0.550225 / 0.576900).margin(1e-6));
  }
}

TEST_CASE("how rows are cut into micro-batches changes neither policy nor critic") {
  World world;
  for (const std::string trunk : kTrunks) {
    INFO(trunk);
    NamedTensors first;
    for (const int64_t tokens : {4, 9, 10000}) {
      const auto policy = tiny_policy(world.dir.path(), 3, test_device(), at::kDouble);
      const auto critic = make_critic(world, *policy, critic_options(trunk), at::kDouble);
      const auto objective = make_policy_gradient({});
      AdamW optimizer(policy->named_parameters(), {});
      const std::vector<float> sampler(10, -1.0F);
      update_policy({*policy, nullptr, *objective, optimizer, critic.get()}, update_rows(sampler),
                    {.passes = 2,
                     .max_batch_tokens = tokens,
                     .max_new_tokens = 4,
                     .learning_rate = 1e-3,
                     .critic_learning_rate = 1e-2});
      std::vector<PackRow> rows;
      for (const TestRow& row : kRows) rows.push_back({row.prompt, row.completion});
      NamedTensors all = copy_of(policy->named_parameters());
      for (const auto& entry : copy_of(critic->named_parameters())) all.push_back(entry);
      all.emplace_back("values", row_values(*critic, rows, tokens));
      if (first.empty()) first = all;
      CHECK(largest_difference(all, first) < 1e-10);
    }
  }
}

TEST_CASE("while the critic warms up, the policy stays as it is") {
  World world;
  use_gae(world);
  for (const std::string trunk : kTrunks) {
    INFO(trunk);
    CriticOptions options = critic_options(trunk);
    options.warmup_steps = 2;
    PpoRun run(world, 1, options, small_options());
    const NamedTensors before = copy_of(run.policy->named_parameters());
    const NamedTensors critic_start = copy_of(run.critic->named_parameters());
    for (int step = 0; step < 2; ++step) {
      const NamedTensors critic_before = copy_of(run.critic->named_parameters());
      const MetricMap metrics = run.trainer.step().metrics;
      CHECK(metrics.at("optim/updates") == 0);
      CHECK(metrics.at("policy/trained_tokens") == 0);
      CHECK(metrics.at("value/loss") > 0);
      CHECK(largest_difference(critic_before, run.critic->named_parameters()) > 0);
    }
    // A trunk of the critic's own learns with its head.
    const NamedTensors critic_end = run.critic->named_parameters();
    for (size_t i = 0; i < critic_end.size(); ++i)
      if (critic_end[i].first.ends_with("up_proj.weight"))
        CHECK_FALSE(at::equal(critic_end[i].second, critic_start[i].second));
    check_equal(before, run.policy->named_parameters());
    CHECK(run.optimizer.steps() == 0);
    CHECK(run.critic->optimizer().steps() == 4);  // two passes each
    CHECK(run.trainer.step().metrics.at("optim/updates") == 2);
    CHECK(largest_difference(before, run.policy->named_parameters()) > 0);
  }
}

TEST_CASE("the value loss reaches a shared trunk unless it is stopped") {
  World world;
  const std::vector<float> sampler(10, -1.0F);
  for (const std::string trunk : kTrunks) {
    INFO(trunk);
    const auto policy = tiny_policy(world.dir.path(), 3, test_device());
    const auto critic = make_critic(world, *policy, critic_options(trunk));
    const auto objective = make_policy_gradient({});
    AdamW optimizer(policy->named_parameters(), {});
    std::vector<UpdateRow> rows = update_rows(sampler);
    for (UpdateRow& row : rows) row.token_advantage = {};  // nothing for the policy to learn
    const NamedTensors before = copy_of(policy->named_parameters());
    const MetricMap metrics = update_policy({*policy, nullptr, *objective, optimizer, critic.get()}, rows,
                                            {.passes = 2, .learning_rate = 1e-3, .critic_learning_rate = 1e-2});
    // In the first pass the head is still 0 and hands no gradient down.
    CHECK((largest_difference(before, policy->named_parameters()) > 0) == (trunk == "shared"));
    CHECK(metrics.count("loss") == 0);
    CHECK(metrics.at("value/skipped") == 0);
  }
}

TEST_CASE("rows that do not count teach the critic nothing") {
  World world;
  const std::vector<float> sampler(10, -1.0F);
  const auto train = [&](double returns, bool counts) {
    const auto policy = tiny_policy(world.dir.path(), 3, test_device());
    const auto critic = make_critic(world, *policy, critic_options("stopped"));
    const auto objective = make_policy_gradient({});
    AdamW optimizer(policy->named_parameters(), {});
    std::vector<UpdateRow> rows = update_rows(sampler);
    const std::vector<double> other(3, returns);
    rows[0].returns = other, rows[0].counts = counts;
    update_policy({*policy, nullptr, *objective, optimizer, critic.get()}, rows, {.critic_learning_rate = 1e-2});
    return copy_of(critic->named_parameters());
  };
  CHECK(largest_difference(train(5, true), train(-5, true)) > 0);
  check_equal(train(5, false), train(-5, false));
}

TEST_CASE("the critic's values become the true expected returns", "[host]") {
  World world;
  use_gae(world, "{lambda: 1}");
  RlOptions options = small_options();
  options.steps = 400, options.passes = 1, options.prompts_per_step = 5, options.samples_per_prompt = 32;
  options.sampling.max_new_tokens = 1;
  CriticOptions critic = critic_options("own");
  critic.warmup_steps = options.steps;
  critic.value_clip = 0;
  critic.optimizer = {.learning_rate = 1e-2, .schedule = "linear", .final_factor = .02};
  PpoRun run(world, 1, critic, options);
  {
    // From nearly uniform to opinionated, so that prompts differ in what they earn.
    const at::NoGradGuard no_grad;
    for (const auto& [name, value] : run.policy->named_parameters())
      if (value.dim() == 2) value.mul_(25);
  }
  while (!run.trainer.done()) run.trainer.step();

  // One token is drawn, and paid 1 when it is an early letter: the expectation is a sum over the vocabulary.
  const Tensor embedding = run.policy->named_parameters().front().second;
  const at::NoGradGuard no_grad;
  double lowest = 1, highest = 0;
  for (const Example& example : world.examples) {
    const std::vector<TokenId> prompt = prompt_ids(example, world.format, 2, world.tokenizer);
    const TestRow row{prompt, {0}, {}, {}, {}};
    const Tensor p = states(*run.policy, row)[0].matmul(embedding.t()).softmax(0);
    double expected = 0;
    for (int64_t id = 0; id < 128; ++id)
      if ((id >= 'a' && id <= 'm') || (id >= 'A' && id <= 'M')) expected += p[id].item<double>();
    const PackRow scored{prompt, row.completion};
    const double value = row_values(*run.critic, {&scored, 1}, 1000).item<double>();
    INFO(example.id << ": value " << value << ", expected return " << expected);
    CHECK(value == Approx(expected).margin(.03));
    lowest = std::min(lowest, expected), highest = std::max(highest, expected);
  }
  CHECK(highest - lowest > .2);
}

TEST_CASE("PPO with a critic raises a reward, on a shared trunk and on its own") {
  for (const std::string trunk : kTrunks) {
    for (const bool whiten : {false, true}) {
      INFO(trunk << (whiten ? ", whitened" : ""));
      World world;
      use_gae(world, whiten ? "{whiten: true}" : "{}");
      RlOptions options = small_options();
      options.steps = 40, options.samples_per_prompt = 16;
      PpoRun run(world, 1, critic_options(trunk), options);
      const double first = run.trainer.step().metrics.at("reward/total/mean");
      MetricMap last;
      while (!run.trainer.done()) last = run.trainer.step().metrics;
      CHECK(first < .3);
      CHECK(last.at("reward/total/mean") > .8);
      CHECK(std::abs(last.at("value/mean") - last.at("reward/total/mean")) < .25);
    }
  }
}

TEST_CASE("PPO learns from one sample a prompt") {
  World world;
  use_gae(world);
  RlOptions options = small_options();
  options.steps = 40, options.prompts_per_step = 32, options.samples_per_prompt = 1;
  PpoRun run(world, 1, critic_options("own"), options);
  const double first = run.trainer.step().metrics.at("reward/total/mean");
  double last = 0;
  while (!run.trainer.done()) last = run.trainer.step().metrics.at("reward/total/mean");
  CHECK(first < .3);
  CHECK(last > .8);
}

TEST_CASE("critic, its optimiser and a moving reference resume bit for bit", "[host]") {
  World world;
  use_gae(world);
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16})
    for (const std::string trunk : kTrunks) {
      INFO(trunk << " " << c10::toString(dtype));
      RlOptions options = small_options();
      options.reference_update = {.every = 2, .rate = .3};
      CriticOptions critic = critic_options(trunk);
      critic.warmup_steps = 1;
      const ObjectiveOptions objective = {.kl_weight = .05, .kl = "k1", .kl_in = "reward"};
      PpoRun straight(world, 1, critic, options, objective, dtype);
      for (int i = 0; i < 3; ++i) straight.trainer.step();
      TempDir folder;
      save_checkpoint(folder.path(), straight.trainer.state());
      std::vector<MetricMap> expected;
      while (!straight.trainer.done()) expected.push_back(timeless(straight.trainer.step().metrics));

      PpoRun resumed(world, 77, critic, options, objective, dtype);  // all must come from the checkpoint
      const auto state = load_newest_checkpoint(folder.path());
      REQUIRE(state);
      resumed.trainer.restore(*state);
      for (const MetricMap& metrics : expected) CHECK(timeless(resumed.trainer.step().metrics) == metrics);
      check_equal(straight.policy->named_parameters(), resumed.policy->named_parameters());
      check_equal(straight.critic->named_parameters(), resumed.critic->named_parameters());
      check_equal(straight.critic->optimizer().state(), resumed.critic->optimizer().state());
      check_equal(straight.reference->named_parameters(), resumed.reference->named_parameters());
    }
}

TEST_CASE("a checkpoint that lacks the critic is refused by name", "[host]") {
  World world;
  use_gae(world);
  PpoRun run(world, 1, critic_options("shared"), small_options());
  TrainState state = clone(run.trainer.state());
  std::erase_if(state.parameters, [](const auto& entry) { return entry.first == "critic/head.bias"; });
  CHECK_THROWS_WITH(run.trainer.restore(state), Catch::Contains("critic: parameter 'head.bias' is missing"));
}

TEST_CASE("a KL in the reward is paid token by token") {
  World world;
  use_gae(world, "{gamma: 1, lambda: 1}");
  RlOptions options = small_options();
  options.passes = 1;
  CriticOptions critic = critic_options("stopped");
  PpoRun run(world, 1, critic, options, {.kl_weight = .5, .kl = "k1", .kl_in = "reward"});
  const MetricMap metrics = run.trainer.step().metrics;
  // Values are 0: the first token's return is the whole total, a later one's lacks the KL paid before. On average that
  // lifts or lowers returns against paying all at the end.
  CHECK(metrics.at("value/mean") == 0);
  double at_the_end = 0, tokens = 0;
  run.trainer.visit_rows([&](const RowRecord& row) {
    at_the_end += row.total * static_cast<double>(row.completion->ids.size());
    tokens += static_cast<double>(row.completion->ids.size());
  });
  CHECK(metrics.at("policy/kl_ref") != 0);
  CHECK(std::abs(metrics.at("value/return_mean") - at_the_end / tokens) > 1e-4);
}

TEST_CASE("a critic and an advantage that needs one go together", "[host]") {
  World world;
  CHECK_THROWS_WITH(PpoRun(world, 1, critic_options("shared"), small_options()),
                    Catch::Contains("'grpo' has no use for a critic"));
  use_gae(world);
  const auto policy = tiny_policy(world.dir.path(), 1);
  const auto engine = make_local_engine(*policy, world.tokenizer);
  const auto objective = make_policy_gradient({});
  AdamW optimizer(policy->named_parameters(), {});
  CHECK_THROWS_WITH(RlTrainer({*policy, *engine, world.tokenizer, world.examples, world.format, *world.matcher,
                               world.rewards, *world.advantage, *objective, optimizer},
                              small_options()),
                    Catch::Contains("'gae'") && Catch::Contains("critic.trunk"));
  CHECK_THROWS_WITH(PpoRun(world, 1, critic_options("shared"), small_options(), {.ratio = "sequence"}),
                    Catch::Contains("sequence_token"));
}

TEST_CASE("a saved critic is read back") {
  World world;
  use_gae(world);
  PpoRun run(world, 1, critic_options("own"), small_options());
  run.trainer.step();
  TempDir folder;
  run.critic->save(folder.path());
  Critic again(TransformerPolicy::load(folder.path(), test_device(), at::kFloat), critic_options("own"));
  again.load_head(folder.path());
  check_equal(run.critic->named_parameters(), again.named_parameters());

  write_tiny_model_files(folder.path(), 64);
  Critic wider(tiny_policy(folder.path(), 1), critic_options("own"));
  CHECK_THROWS_WITH(wider.load_head(folder.path()),
                    Catch::Contains("value_head.safetensors") && Catch::Contains("head.weight"));
}

TEST_CASE("a moving reference follows its formula, in bfloat16 too") {
  World world;
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16})
    for (const double rate : {1.0, .01}) {
      INFO(c10::toString(dtype) << ", rate " << rate);
      RlOptions options = small_options();
      options.steps = 5, options.reference_update = {.every = 2, .rate = rate};
      const auto policy = tiny_policy(world.dir.path(), 1, test_device(), dtype);
      const auto reference = policy->frozen_copy();
      const auto engine = make_local_engine(*policy, world.tokenizer);
      const auto objective = make_policy_gradient({.kl_weight = .1});
      AdamW optimizer(policy->named_parameters(), {.learning_rate = 1e-3});
      RlTrainer trainer({*policy, *engine, world.tokenizer, world.examples, world.format, *world.matcher, world.rewards,
                         *world.advantage, *objective, optimizer, reference.get()},
                        options);
      std::vector<Tensor> expected;
      for (const auto& [name, value] : reference->named_parameters()) expected.push_back(value.to(at::kDouble).clone());
      const NamedTensors start = copy_of(reference->named_parameters());
      for (int64_t step = 1; step <= 5; ++step) {
        trainer.step();
        const NamedTensors now = policy->named_parameters(), got = reference->named_parameters();
        double worst = 0;
        for (size_t i = 0; i < now.size(); ++i) {
          if (step % 2 == 0) expected[i] = (1 - rate) * expected[i] + rate * now[i].second.detach().to(at::kDouble);
          const Tensor scale = expected[i].abs().clamp_min(1e-3);
          worst = std::max(worst, ((got[i].second.to(at::kDouble) - expected[i]) / scale).abs().max().item<double>());
        }
        CHECK(worst < (dtype == at::kBFloat16 ? 1.0 / 256 : 1e-6));
        if (step == 1) check_equal(start, got);
      }
      CHECK(largest_difference(start, reference->named_parameters()) > 0);
    }
}

TEST_CASE("a reference of another shape cannot follow the policy", "[host]") {
  World world;
  TempDir other;
  write_tiny_model_files(other.path(), 64);
  const auto wide = tiny_policy(other.path(), 1)->frozen_copy();
  const auto policy = tiny_policy(world.dir.path(), 1);
  const auto engine = make_local_engine(*policy, world.tokenizer);
  const auto objective = make_policy_gradient({.kl_weight = .1});
  AdamW optimizer(policy->named_parameters(), {});
  RlOptions options = small_options();
  options.reference_update.every = 1;
  RlParts parts{*policy,       *engine,          world.tokenizer, world.examples, world.format, *world.matcher,
                world.rewards, *world.advantage, *objective,      optimizer,      wide.get()};
  CHECK_THROWS_WITH(RlTrainer(parts, options), Catch::Contains("same architecture"));
  parts.reference = policy->frozen_copy().release();
  const std::unique_ptr<Policy> owner(parts.reference);
  CHECK_NOTHROW(RlTrainer(parts, options));
}

TEST_CASE("examples/ppo runs from its YAML, stops and goes on", "[host]") {
  World world;
  write_tiny_model_files(world.dir.path() / "model");
  tiny_policy(world.dir.path(), 1)->save(world.dir.path() / "model");
  const auto data = world.dir.write("train.jsonl", R"({"id": "a", "prompt": "fruit", "gold": ["apple", "pear"]}
{"id": "b", "prompt": "tree", "gold": ["oak", "elm"]}
)");
  const auto run = [&](const std::string& name, const std::vector<std::string>& more) {
    std::vector<std::string> overrides = {"model=" + (world.dir.path() / "model").string(),
                                          "critic.model=" + (world.dir.path() / "model").string(),
                                          "data.train=" + data.string(),
                                          "output=" + (world.dir.path() / name).string(),
                                          "steps=3",
                                          "prompts_per_step=2",
                                          "samples_per_prompt=2",
                                          "sampling.max_new_tokens=4",
                                          "dtype=float32",
                                          "num_answers=[1]",
                                          "optimizer.warmup_steps=1",
                                          "critic.warmup_steps=1",
                                          "checkpoint.every=1"};
    overrides.insert(overrides.end(), more.begin(), more.end());
    const std::filesystem::path source = std::getenv("PLURAL_SOURCE_DIR");
    const RunConfig config = load_run_config(source / "examples/ppo/ppo.yaml", overrides);
    std::string said;
    RunOptions options;
    options.message = [&](const std::string& text) { said += text; };
    CHECK(run_training(config, options).finished);
    CHECK_THAT(said, Catch::Contains("value head on"));
    return world.dir.path() / name;
  };
  for (const std::string trunk : {"own", "shared"}) {
    INFO(trunk);
    std::vector<std::string> more = {"critic.trunk=" + trunk};
    if (trunk == "shared") more.push_back("critic.model=");
    const auto folder = run(trunk, more);
    CHECK(std::filesystem::exists(folder / "critic/value_head.safetensors"));
    CHECK(std::filesystem::exists(folder / "critic/model.safetensors") == (trunk == "own"));
    CHECK(std::filesystem::exists(folder / "model/model.safetensors"));
    std::ifstream lines(folder / "metrics.jsonl");
    std::string line;
    int steps = 0;
    while (std::getline(lines, line)) {
      CHECK_THAT(line, Catch::Contains("\"value/loss\""));
      ++steps;
    }
    CHECK(steps == 3);
  }
  // The critic of one run starts another.
  run("again", {"critic.model=" + (world.dir.path() / "own/critic").string()});
}
