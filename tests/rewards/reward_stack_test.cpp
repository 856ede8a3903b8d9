// SPDX-License-Identifier: Apache-2.0
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
