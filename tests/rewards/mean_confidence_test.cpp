// SPDX-License-Identifier: Apache-2.0
#include "tests/rewards/reward_fixture.h"

using namespace plural::testing;

TEST_CASE("mean_confidence: one confidence for the set, else the mean of the answers'") {
  const std::string set = write_set({{"a1", "0.2"}, {"b1", "0.6"}, {"c1", "0.1"}});
  const Scored scored(animals(), {set, set + "<confidence>0.8</confidence>", set + "<confidence>1.7</confidence>",
                                  set + "<confidence>high</confidence>", ""});
  check_close(scored.rows("mean_confidence"), {0.3, 0.8, 1.0, 0.0, 0.0});
}

TEST_CASE("mean_confidence: numbered confidences count without their answers") {
  const std::string thought = "<think>t</think>", one = "<confidence1>0.4</confidence1>",
                    two = "<confidence2>0.8</confidence2>", third = "<confidence3>1</confidence3>";
  // Divided by K = 2 whatever is there; what is numbered beyond K is not asked for.
  const Scored scored(animals(),
                      {thought + one + two, thought + "<answer1>cat</answer1>" + one + two,
                       thought + "<answer2>cat</answer2>" + one + two, thought + two, thought + third,
                       thought + "<confidence1>high</confidence1>" + two, thought + "<confidence1>7</confidence1>"},
                      2, "multi_answer");
  check_close(scored.rows("mean_confidence"), {0.6, 0.6, 0.6, 0.4, 0.0, 0.4, 0.5});
  check_close(scored.subset("mean_confidence", {false, true}), {0.4, 0.4, 0.4, 0.4, 0.0, 0.4, 0.0});
  // Nothing else looks at them.
  check_close(scored.rows("pass_at_1"), {0, 0, 0, 0, 0, 0, 0});
  check_close(scored.rows("response_constraint"), {0, 0, 0, 0, 0, 0, 0});
}

TEST_CASE("mean_confidence of a part of the set; one for the whole set belongs to no answer") {
  const std::string set = write_set({{"a1", "0.2"}, {"b1", "0.6"}, {"c1", "0.1"}});
  const Scored scored(animals(), {set, set + "<confidence>0.8</confidence>"});
  check_close(scored.subset("mean_confidence", {true, false, true}), {0.1, 0.8});
}
