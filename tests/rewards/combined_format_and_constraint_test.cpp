// SPDX-License-Identifier: Apache-2.0
#include "tests/rewards/reward_fixture.h"

using namespace plural::testing;

TEST_CASE("combined_format_and_constraint is the product of both") {
  const std::string good = write_set({{"a1", "0.3"}, {"b1", "0.3"}, {"c1", "0.4"}});
  const Scored scored(animals(), {good, good + "<answer4>d</answer4>",                         // constraint only
                                  write_set({{"a1", "0.9"}, {"b1", "0.9"}, {"c1", "0.9"}})});  // format only
  check_close(scored.rows("combined_format_and_constraint"), {1, 0, 0});
  check_close(scored.rows("combined_format_and_constraint", "{sum_at_most_one: false}"), {1, 0, 1});
}
