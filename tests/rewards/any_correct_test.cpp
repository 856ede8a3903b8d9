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
