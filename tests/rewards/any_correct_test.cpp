// SPDX-License-Identifier: Apache-2.0
#include "tests/rewards/reward_fixture.h"

using namespace plural::testing;

TEST_CASE("any_correct is 1 for one hit or more") {
  const Scored scored(animals(),
                      {write_set({{"cow", "0.5"}, {"dog", "0.5"}, {"dog", "0.5"}}),
                       write_set({{"cow", "0.5"}, {"ant", "0.5"}, {"bee", "0.5"}}), write_set({{"owl", ""}})});
  check_close(scored.rows("any_correct"), {1, 0, 1});
  check_close(scored.rows("any_correct", "{require_format: true}"), {1, 0, 0});
}

TEST_CASE("any_correct: the first correct answer earns it, and the next one where that is left out") {
  const Scored scored(animals(), {write_set({{"cow", "0.5"}, {"dog", "0.5"}, {"cat", "0.5"}})});
  check_close(Scored::values(scored.score("any_correct").per_answer), {0, 1, 0});
  check_close(scored.subset("any_correct", {true, true, false}), {1});
  check_close(scored.subset("any_correct", {true, false, true}), {1});
  check_close(scored.subset("any_correct", {true, false, false}), {0});
}

TEST_CASE("any_correct: what one more hit earns at least") {
  const auto any = plural::builtin_rewards().make("any_correct");
  CHECK(any->zero_confidence_margin(1, false) == 1);
  CHECK(any->zero_confidence_margin(3, false) == 0);  // next to another hit
  CHECK(any->zero_confidence_margin(3, true) == 1);   // there is no other
}
