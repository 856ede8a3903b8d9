// SPDX-License-Identifier: Apache-2.0
#include "tests/rewards/reward_fixture.h"

using namespace plural::testing;

TEST_CASE("mean_confidence: one confidence for the set, else the mean of the answers'") {
  const std::string set = write_set({{"a1", "0.2"}, {"b1", "0.6"}, {"c1", "0.1"}});
  const Scored scored(animals(), {set, set + "<confidence>0.8</confidence>", set + "<confidence>1.7</confidence>",
                                  set + "<confidence>high</confidence>", ""});
  check_close(scored.rows("mean_confidence"), {0.3, 0.8, 1.0, 0.0, 0.0});
}

TEST_CASE("mean_confidence of a part of the set; one for the whole set belongs to no answer") {
  const std::string set = write_set({{"a1", "0.2"}, {"b1", "0.6"}, {"c1", "0.1"}});
  const Scored scored(animals(), {set, set + "<confidence>0.8</confidence>"});
  check_close(scored.subset("mean_confidence", {true, false, true}), {0.1, 0.8});
}
