// SPDX-License-Identifier: Apache-2.0
#include "tests/rewards/reward_fixture.h"

using namespace plural::testing;

TEST_CASE("confidence_one_or_zero: within 0.01 of 0 or 1, bounds excluded") {
  const std::string end = "<think>x</think><answer>cat</answer><analysis>y</analysis>";
  std::vector<std::string> completions;
  for (const char* confidence : {"0", "1", "0.009", "0.995", "0.01", "0.99", "0.5"})
    completions.push_back(end + "<confidence>" + confidence + "</confidence>");
  const Scored scored(animals(), completions, 1, "rlcr_single_answer");
  check_close(scored.rows("confidence_one_or_zero"), {1, 1, 1, 1, 0, 0, 0});
}

TEST_CASE("confidence_one_or_zero looks at every answer of a set") {
  const Scored scored(animals(), {write_set({{"a1", "0"}, {"b1", "1"}, {"c1", "0.999"}}),
                                  write_set({{"a1", "0"}, {"b1", "1"}, {"c1", "0.4"}}),
                                  write_set({{"a1", "0"}, {"b1", "1"}, {"c1", "none"}}), ""});
  check_close(scored.rows("confidence_one_or_zero"), {1, 0, 0, 0});
}

TEST_CASE("confidence_one_or_zero: numbered confidences count without their answers") {
  const std::string one = "<think>t</think><confidence1>0</confidence1>";
  const Scored scored(animals(), {one + "<confidence2>1</confidence2>", one + "<confidence2>0.8</confidence2>", one}, 2,
                      "multi_answer");
  check_close(scored.rows("confidence_one_or_zero"), {1, 0, 0});
}
