// SPDX-License-Identifier: Apache-2.0
#include "tests/rewards/reward_fixture.h"

using namespace plural::testing;

TEST_CASE("pass_at_3 is pass_at_i with i = 3") {
  const std::vector<Pair> others = {{"cow", "0.5"}, {"ant", "0.4"}, {"bee", "0.3"}};
  std::vector<Pair> third = others, fourth = others;
  third.push_back({"dog", "0.35"});
  fourth.push_back({"dog", "0.2"});
  const Scored scored(animals(), {write_set(third), write_set(fourth), "dog"}, 4);
  check_close(scored.rows("pass_at_3"), {1, 0, 0});
  check_close(scored.rows("pass_at_i", "{i: 3}"), {1, 0, 0});
  CHECK_THROWS_AS(scored.rows("pass_at_3", "{i: 2}"), plural::InputError);
}
