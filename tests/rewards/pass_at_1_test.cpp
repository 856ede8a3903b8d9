// SPDX-License-Identifier: Apache-2.0
#include "tests/rewards/reward_fixture.h"

using namespace plural::testing;

TEST_CASE("pass_at_1 looks at the answer of the highest confidence, ties in order") {
  const Scored scored(animals(), {write_set({{"cow", "0.2"}, {"dog", "0.7"}, {"ant", "0.1"}}),
                                  write_set({{"cow", "0.5"}, {"dog", "0.5"}, {"ant", "0.1"}}),
                                  write_set({{"dog", "0"}, {"cow", "0"}, {"ant", "0"}}),
                                  write_set({{"dog", "0.9"}, {"cow", "0.1"}, {"", "0"}})});
  check_close(scored.rows("pass_at_1"), {1, 0, 1, 0});
}
