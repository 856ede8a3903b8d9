// SPDX-License-Identifier: Apache-2.0
#include "tests/rewards/reward_fixture.h"

using namespace plural::testing;

TEST_CASE("format is the parser's verdict") {
  const std::string good = write_set({{"cat", "0.5"}, {"cat", "1"}, {"cow", "0"}});
  const Scored scored(
      animals(), {good, "\n" + good + "\n", "Sure! " + good, write_set({{"cat", "0.5"}, {"dog", "1.5"}, {"cow", "0"}}),
                  write_set({{"cat", "0.5"}, {"", "0.5"}, {"cow", "0"}}), good + "<answer4>ant</answer4>"});
  check_close(scored.rows("format"), {1, 1, 0, 0, 0, 0});
}
