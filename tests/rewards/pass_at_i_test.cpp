// SPDX-License-Identifier: Apache-2.0
#include "rewards/reward_support.h"
#include "tests/rewards/reward_fixture.h"

using namespace plural::testing;

TEST_CASE("pass_at_i looks at the i most confident answers") {
  const Scored scored(animals(), {write_set({{"cow", "0.5"}, {"ant", "0.4"}, {"dog", "0.1"}}),
                                  write_set({{"cow", "0.2"}, {"ant", "0.4"}, {"dog", "0.3"}})});
  check_close(scored.rows("pass_at_i", "{i: 1}"), {0, 0});
  check_close(scored.rows("pass_at_i", "{i: 2}"), {0, 1});
  check_close(scored.rows("pass_at_i", "{i: 3}"), {1, 1});
  check_close(scored.rows("pass_at_i", "{i: 9}"), {1, 1});
  CHECK_THROWS_AS(scored.rows("pass_at_i", "{i: 0}"), plural::InputError);
}

TEST_CASE("num_correct_at counts different correct answers") {
  const Scored scored(animals(), {write_set({{"dog", "0.5"}, {"Dog", "0.4"}, {"cat", "0.1"}})});
  check_close(Scored::values(plural::rewards::num_correct_at(scored.answers, 2)), {1});
  check_close(Scored::values(plural::rewards::num_correct_at(scored.answers, 3)), {2});
}
