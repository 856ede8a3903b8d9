// SPDX-License-Identifier: Apache-2.0
#include <cmath>

#include "tests/rewards/reward_fixture.h"

using namespace plural;
using namespace plural::testing;

namespace {

/// Two rows of two and three tokens; what stands past a row's end must not count.
RewardOutput score(const std::string& options, int64_t step = 0, int64_t steps = 0) {
  Scored scored(animals(), {"", ""});
  scored.answers.length = at::tensor(std::vector<int64_t>{2, 3}).to(test_device());
  RewardInput input = scored.input();
  input.token_entropy = at::tensor(std::vector<float>{1, 2, 9, 0.5, 0, 1}).view({2, 3}).to(test_device());
  input.vocab_size = 20;
  input.step = step;
  input.steps = steps;
  return builtin_rewards().make("entropy", parse_yaml(options, "options"))->score(input);
}

}  // namespace

TEST_CASE("entropy is the mean over a row's own tokens, out of ln V") {
  check_close(Scored::values(score("{}").row), {1.5 / std::log(20.0), 0.5 / std::log(20.0)});
}

TEST_CASE("entropy fades out over the run") {
  const double full = 1.5 / std::log(20.0);
  const auto at_step = [&](int64_t step) {
    return Scored::values(score("{decay_start_step: 100, decay_final_factor: 0.2}", step, 200).row)[0];
  };
  CHECK(at_step(99) == Approx(full));
  CHECK(at_step(150) == Approx(0.6 * full));
  CHECK(at_step(200) == Approx(0.2 * full));
}

TEST_CASE("entropy asks for token entropies and does not apply without them") {
  const Scored scored(animals(), {"cat"});
  CHECK(builtin_rewards().make("entropy")->needs_token_entropy());
  RewardInput input = scored.input();
  input.token_entropy = Tensor();
  CHECK_FALSE(builtin_rewards().make("entropy")->score(input).valid.item<bool>());
  RewardStack stack;
  CHECK_FALSE(stack.needs_token_entropy());
  stack.add(builtin_rewards().make("format"));
  CHECK_FALSE(stack.needs_token_entropy());
  stack.add(builtin_rewards().make("entropy"), 0);  // logged, so computed
  CHECK(stack.needs_token_entropy());
}
