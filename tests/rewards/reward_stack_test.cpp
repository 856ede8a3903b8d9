// SPDX-License-Identifier: Apache-2.0
#include <limits>

#include "rewards/schedules.h"
#include "tests/rewards/reward_fixture.h"

using namespace plural;
using namespace plural::testing;

namespace {

PartSpec spec(const std::string& name, const std::string& yaml) { return {name, parse_yaml(yaml, "run.yaml")}; }

class OnEvenRows final : public Reward {
 public:
  std::string name() const override { return "even"; }
  RewardOutput score(const RewardInput& input) const override {
    RewardOutput out;
    const Tensor index = at::arange(input.answers.rows, input.answers.k.options());
    out.row = at::full({input.answers.rows}, 4.0, input.answers.confidence.options());
    out.valid = index.remainder(2).eq(0);
    return out;
  }
};

/// 1 for each row and 0.5 for each answer; not in row 0, where the row, nor in row 1, where an answer has no finite
/// value.
class BadValues final : public Reward {
 public:
  std::string name() const override { return "bad"; }
  RewardOutput score(const RewardInput& input) const override {
    RewardOutput out;
    out.row = at::ones({input.answers.rows}, input.answers.confidence.options());
    out.row[0] = std::numeric_limits<double>::quiet_NaN();
    out.per_answer = at::full_like(input.answers.confidence, 0.5);
    out.per_answer[1][0] = -std::numeric_limits<double>::infinity();
    return out;
  }
  Tensor score_subset(const RewardInput& input, const Tensor& keep) const override {
    return score(input).row * keep.any(1);
  }
};

}  // namespace

TEST_CASE("a stack adds weighted rewards and their per-answer parts") {
  const RewardStack stack = build_reward_stack(
      {spec("format", "{weight: 0.5}"), spec("coverage", "{denominator: k}"),
       spec("brier", "{weight: 2, sum_at_most_one: false, require_unique: false}"),
       spec("uniqueness", "{weight: 0, label: different}")},
      builtin_rewards());
  const Scored scored(animals(), {write_set({{"cat", "1"}, {"cow", "0"}, {"ant", "0.5"}}), ""});
  const auto result = stack.score(scored.input());
  // 0.5 * 1 + 1/3 + 2 * (1 - 0.25/3); nothing for the empty completion.
  check_close(Scored::values(result.total), {0.5 + 1.0 / 3 + 2 * (1 - 0.25 / 3), 0});
  check_close(Scored::values(result.per_answer[0]), {1.0 / 3, 0, -2 * 0.25 / 3});
  CHECK(result.parts.size() == 4);
  CHECK(result.metrics.at("reward/format/mean") == Approx(0.5));
  CHECK(result.metrics.at("reward/format/std") == Approx(std::sqrt(0.5)));
  CHECK(result.metrics.at("reward/different/mean") == Approx(0.5));
  CHECK(result.metrics.count("reward/total/mean") == 1);
  CHECK_THAT(stack.formula(), Catch::StartsWith("total = 0.5 format + 1 coverage + 2 brier"));
}

TEST_CASE("rows that a reward does not apply to are left out of totals and means") {
  RewardStack stack;
  stack.add(std::make_unique<OnEvenRows>(), 0.5);
  const Scored scored(animals(), {"", "", ""});
  const auto result = stack.score(scored.input());
  check_close(Scored::values(result.total), {2, 0, 2});
  CHECK(result.metrics.at("reward/even/mean") == 4.0);
}

TEST_CASE("rows in which a reward has no finite value are left out of it, and do not spoil the others") {
  RewardStack stack;
  stack.add(std::make_unique<BadValues>(), 2.0);
  stack.add(builtin_rewards().make("format"), 0.5);
  const std::string set = write_set({{"cat", "1"}, {"cow", "0.5"}, {"dog", "1"}});
  const Scored scored(animals(), {set, set, set, ""});
  const auto result = stack.score(scored.input());
  check_close(Scored::values(result.total), {0.5, 0.5, 2.5, 2});
  check_close(Scored::values(result.per_answer), {0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1});
  CHECK(result.metrics.at("reward/bad/nonfinite_rows") == 2);
  CHECK(result.metrics.at("reward/bad/valid") == 0.5);
  CHECK(result.metrics.at("reward/bad/mean") == 1);
  CHECK(result.metrics.count("reward/format/nonfinite_rows") == 0);
  REQUIRE(result.problems.size() == 1);
  CHECK_THAT(result.problems[0], Catch::StartsWith("bad: ") && Catch::Contains("not a finite number"));
  const Tensor all = at::ones_like(scored.answers.present);
  check_close(Scored::values(stack.score_subset(scored.input(), result, all)), {0.5, 0.5, 2.5, 2});
}

TEST_CASE("a stack judges parts of a set; what judges the whole is in every part") {
  RewardStack stack = build_reward_stack(
      {spec("format", "{weight: 0.5}"), spec("coverage", "{weight: 3}"),
       spec("brier", "{weight: 6, sum_at_most_one: false}"), spec("any_correct", "{weight: 0}")},
      builtin_rewards());
  stack.add(std::make_unique<OnEvenRows>(), 0.25);
  const Scored scored(animals(), {write_set({{"cat", "1"}, {"cow", "0.5"}, {"dog", "1"}}), ""});
  const auto result = stack.score(scored.input());
  const auto part = [&](std::vector<int64_t> slots) {
    const Tensor keep = at::tensor(slots).to(test_device()).to(at::kBool).expand({2, 3});
    return Scored::values(stack.score_subset(scored.input(), result, keep));
  };
  // Whole: 0.5 for the format, 0.25 * 4 in row 0 only. Brier loses 6 * 0.25 / 3 for the second answer.
  check_close(Scored::values(stack.score_whole(scored.input(), result)), {1.5, 0});
  check_close(part({1, 1, 1}), {1.5 + 2 + 5.5, 0});
  check_close(part({1, 1, 1}), Scored::values(result.total));
  check_close(part({1, 1, 0}), {1.5 + 1 + 5.5, 0});
  check_close(part({0, 0, 1}), {1.5 + 1 + 6, 0});
  check_close(part({0, 0, 0}), {1.5 + 6, 0});
}

TEST_CASE("the share of a reward is what it moves within the groups, before any scaling") {
  const RewardStack stack = build_reward_stack(
      {spec("coverage", "{weight: 3}"), spec("format", "{weight: 2}"), spec("any_correct", "{weight: 0}")},
      builtin_rewards());
  const Scored scored(animals(), {write_set({{"cat", "1"}, {"dog", "1"}, {"cow", "1"}}),  // coverage 2/3, format
                                  write_set({{"cat", "1"}, {"cow", "1"}}),                // 1/3, no format
                                  "", ""});                                               // a group of equals
  RewardInput input = scored.input();
  input.samples_per_prompt = 2;
  const auto metrics = stack.score(input).metrics;
  // Centred in its group: 3 * (1/6, -1/6) against 2 * (1/2, -1/2).
  CHECK(metrics.at("reward/coverage/share") == Approx(1.0 / 3));
  CHECK(metrics.at("reward/format/share") == Approx(2.0 / 3));
  CHECK(metrics.at("reward/any_correct/share") == 0);
  const auto alone = stack.score(scored.input()).metrics;  // groups of one have no advantage
  CHECK(alone.count("reward/coverage/share") == 0);
}

TEST_CASE("a weight may move with the step") {
  const RewardStack stack = build_reward_stack(
      {spec("format", "{weight: 0.05, ramp: {from: 0, begin: 200}}"),
       spec("any_correct", "{weight: 0, ramp: {from: 1, begin: 10, end: 20}}")},
      builtin_rewards());
  const Scored scored(animals(), {write_set({{"cat", "1"}, {"dog", "1"}, {"cow", "1"}})});
  const auto at_step = [&](int64_t step, int64_t steps) {
    RewardInput input = scored.input();
    input.step = step;
    input.steps = steps;
    const auto result = stack.score(input);
    CHECK(result.metrics.at("reward/format/weight") == result.weights[0]);
    check_close(Scored::values(result.total), {result.weights[0] + result.weights[1]});
    return result.weights;
  };
  check_close(at_step(0, 1000), {0, 1});
  check_close(at_step(200, 1000), {0, 0});
  check_close(at_step(15, 1000), {0, 0.5});
  check_close(at_step(600, 1000), {0.025, 0});  // the reference's adaptive Brier weight
  check_close(at_step(1000, 1000), {0.05, 0});
  check_close(at_step(0, 0), {0.05, 0});  // outside a run: the final weights
  CHECK_THAT(stack.formula(), Catch::Contains("(0 until step 200, 0.05 from the last step) format") &&
                                  Catch::Contains("+ (1 until step 10, 0 from step 20) any_correct"));
  CHECK_THROWS_WITH(build_reward_stack({spec("format", "{ramp: {begin: 9, end: 3}}")}, builtin_rewards()),
                    Catch::Contains("begin 9 and end 3"));
}

TEST_CASE("a stack that pays for deliberate misses says so") {
  const auto warnings = [](const std::vector<PartSpec>& specs, int64_t k = 3) {
    return build_reward_stack(specs, builtin_rewards()).warnings(k);
  };
  // Slot reward lam z - (mu / K) (q - z)^2 is safe iff lam >= mu / K; the edge itself is.
  CHECK(warnings({spec("coverage", "{weight: 1}"), spec("brier", "{weight: 1}")}).empty());
  CHECK(warnings({spec("coverage", "{weight: 0.9}"), spec("brier", "{weight: 0.5}")}).empty());
  CHECK(warnings({spec("accuracy", "{more_than_one_correctness_point: true}"), spec("brier", "{}")}).empty());
  CHECK(warnings({spec("coverage", "{}"), spec("format", "{}"), spec("any_correct", "{}")}).empty());
  CHECK(warnings({}).empty());
  const auto edge = warnings({spec("coverage", "{weight: 0.9}"), spec("brier", "{weight: 1}")});
  REQUIRE(edge.size() == 1);
  CHECK_THAT(edge[0], Catch::Contains("wrong on purpose") && Catch::Contains("earns at least coverage 0.3 ") &&
                          Catch::Contains("loses brier 0.3333") && !Catch::Contains("several right answers"));
  // The first hit of "any" leaves nothing for the others; with K = 1 there are no others.
  const std::vector<PartSpec> published = {spec("format", "{weight: 0.5}"), spec("accuracy", "{weight: 0.5}"),
                                           spec("brier", "{weight: 0.5}")};
  CHECK(warnings(published).size() == 1);
  CHECK_THAT(warnings(published)[0], Catch::Contains("earns at least nothing") &&
                                         Catch::Contains("where questions have several right answers:"));
  CHECK(warnings(published, 1).empty());
  // A ramp is looked at where it is worst.
  const auto ramped = warnings(
      {spec("coverage", "{weight: 1}"), spec("brier", "{weight: 2, ramp: {from: 0, begin: 9}}")});
  REQUIRE(ramped.size() == 1);
  CHECK_THAT(ramped[0], Catch::Contains("at the end of the run"));
  const auto early = warnings(
      {spec("coverage", "{weight: 1, ramp: {from: 0, begin: 5, end: 9}}"), spec("brier", "{}")});
  REQUIRE(early.size() == 1);
  CHECK_THAT(early[0], Catch::Contains("wrong on purpose:"));
}

TEST_CASE("a stack refuses unknown rewards, options and equal names") {
  const auto registry = builtin_rewards();
  CHECK_THROWS_WITH(build_reward_stack({spec("brir", "{}")}, registry), Catch::Contains("brier"));
  CHECK_THROWS_WITH(build_reward_stack({spec("format", "{wieght: 1}")}, registry), Catch::Contains("wieght"));
  CHECK_THROWS_WITH(build_reward_stack({spec("format", "{weight: much}")}, registry), Catch::Contains("weight"));
  CHECK_THROWS_WITH(build_reward_stack({spec("format", "{}"), spec("format", "{}")}, registry),
                    Catch::Contains("label"));
}

TEST_CASE("combine_rewards leaves out what is undefined") {
  const double nan = std::nan("");
  const Tensor values = at::tensor(std::vector<double>{1, nan, 0.5, 1}, at::kDouble).view({2, 2});
  check_close(Scored::values(combine_rewards(values, at::tensor(std::vector<double>{2, 3}, at::kDouble))), {2, 4});
}

TEST_CASE("schedules") {
  CHECK(adaptive_weight(0, 0.05, 200, 200, 1000, -1) == 0);
  CHECK(adaptive_weight(0, 0.05, 600, 200, 1000, -1) == Approx(0.025));
  CHECK(adaptive_weight(0, 0.05, 5000, 200, 1000, 100) == Approx(0.05));
  CHECK(adaptive_weight(0, 1, 150, 100, -1, 200) == Approx(0.5));
  AdaptiveBeta beta(0, 0.04, 0.1);
  CHECK(beta.step({0.5, 0.1}) == 0.01);                  // nothing known yet
  CHECK(beta.step({0.0}) == Approx(0.01 + 0.1 * 0.26));  // mean 0.3 of the step before
  CHECK(beta.step({}) == Approx(0.036 - 0.004));
  AdaptiveBeta low(1e-6, 1.0, 10.0);
  low.step({0.0});
  CHECK(low.step({0.0}) == 1e-6);
}

TEST_CASE("entropy reward: mean over kept tokens, out of ln V, decayed") {
  const Tensor entropy = at::tensor(std::vector<double>{1, 3, 100}, at::kDouble).unsqueeze(0);
  const Tensor mask = at::tensor(std::vector<double>{1, 1, 0, 0}, at::kDouble).unsqueeze(0);
  EntropyRewardOptions options;
  options.vocab_size = 50;
  const double full = 2.0 / std::log(50.0);
  CHECK(entropy_reward(entropy, mask, options, {}, {}).item<double>() == Approx(full));
  CHECK(entropy_reward(entropy, {}, options, {}, {}).item<double>() == 1.0);
  options.decay_start_step = 100;
  options.decay_final_factor = 0.2;
  CHECK(entropy_reward(entropy, mask, options, 50, 200).item<double>() == Approx(full));
  CHECK(entropy_reward(entropy, mask, options, 150, 200).item<double>() == Approx(full * 0.6));
  CHECK(entropy_reward(entropy, mask, options, 900, 200).item<double>() == Approx(full * 0.2));
  CHECK_THROWS_AS(entropy_reward(entropy, mask, options, 900, 0), InputError);
}
