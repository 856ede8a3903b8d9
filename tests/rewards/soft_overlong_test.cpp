// SPDX-License-Identifier: Apache-2.0
#include "tests/rewards/reward_fixture.h"

using namespace plural;
using namespace plural::testing;

namespace {

RewardOutput score(std::vector<int64_t> lengths, const std::string& options, int64_t max_new_tokens = 0) {
  Scored scored(animals(), std::vector<std::string>(lengths.size()));
  scored.answers.length = at::tensor(lengths).to(test_device());
  RewardInput input = scored.input();
  input.max_new_tokens = max_new_tokens;
  return builtin_rewards().make("soft_overlong", parse_yaml(options, "options"))->score(input);
}

}  // namespace

TEST_CASE("soft_overlong falls from 0 to -1 over the buffer") {
  const auto out = score({1, 80, 85, 90, 100, 150}, "{max_tokens: 100, buffer_tokens: 20}");
  check_close(Scored::values(out.row), {0, 0, -0.25, -0.5, -1, -1});
}

TEST_CASE("soft_overlong takes the sampler's limit, and a fifth of it") {
  const auto out = score({79, 80, 90, 100}, "{}", 100);
  check_close(Scored::values(out.row), {0, 0, -0.5, -1});
  check_close(Scored::values(score({90}, "{max_tokens: 200}", 100).row), {0});
}

TEST_CASE("soft_overlong does not apply without token counts or a limit") {
  CHECK_FALSE(score({50}, "{}").valid.item<bool>());
  const auto text_only = score({0, 3}, "{max_tokens: 100}");
  CHECK_FALSE(text_only.valid[0].item<bool>());
  CHECK(text_only.valid[1].item<bool>());
  CHECK_THROWS_WITH(score({1}, "{max_tokens: 10, buffer_tokens: 11}"), Catch::Contains("max_tokens 10"));
}
