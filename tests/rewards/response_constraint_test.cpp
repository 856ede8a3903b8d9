// SPDX-License-Identifier: Apache-2.0
#include "tests/rewards/reward_fixture.h"

using namespace plural::testing;

TEST_CASE("response_constraint: different answers, probabilities, sum at most 1") {
  const Scored scored(animals(), {write_set({{"a1", "0.34"}, {"b1", "0.56"}, {"c1", "0.10"}}),  // 1 but for rounding
                                  write_set({{"a1", "0.5"}, {"b1", "0.5"}, {"c1", "0.01"}}),
                                  write_set({{"a1", "1.4"}, {"b1", "-0.5"}, {"c1", "0.1"}}),
                                  write_set({{"a1", "0.3"}, {"A1.", "0.3"}, {"c1", "0.1"}}),
                                  write_set({{"a1", "0.3"}, {"b1", "half"}, {"c1", "0.1"}})});
  check_close(scored.rows("response_constraint"), {1, 0, 0, 0, 0});
  check_close(scored.rows("response_constraint", "{sum_at_most_one: false}"), {1, 1, 0, 0, 0});
}

TEST_CASE("response_constraint needs confidences whatever the format asks for") {
  const std::string bare = "<think>x</think><answer1>cat</answer1><answer2>dog</answer2>";
  const Scored scored(animals(), {bare, bare + "<confidence1>0.5</confidence1><confidence2>0.5</confidence2>"}, 2,
                      "multi_answer_rlvr");
  check_close(scored.rows("response_constraint"), {0, 1});
}
