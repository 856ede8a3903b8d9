// SPDX-License-Identifier: Apache-2.0
#include <cmath>

#include "tests/rewards/exclusive_forecast.h"

using namespace plural::testing;

TEST_CASE("joint_score judges the answers and none of these as one forecast") {
  const Scored scored(animals(), {write_set({{"cat", "0.5"}, {"cow", "0.2"}, {"ant", "0.1"}}),   // cat; none has 0.2
                                  write_set({{"ox", "0.5"}, {"cow", "0.2"}, {"ant", "0.1"}})});  // none of these
  // 0.5^2 + 0.2^2 + 0.1^2 + 0.2^2 = 0.34, and with "none": 0.5^2 + 0.2^2 + 0.1^2 + 0.8^2 = 0.94.
  check_close(scored.rows("joint_score"), {1 - 0.17, 1 - 0.47});
  const std::string log = "{score: log, clip: 0.01}";
  check_close(scored.rows("joint_score", log),
              {1 + std::log(0.5) / std::log(100.0), 1 + std::log(0.2) / std::log(100.0)});
}

TEST_CASE("joint_score: sure forecasts") {
  const Scored scored(
      animals(),
      {write_set({{"cow", "0"}, {"cat", "1"}, {"ant", "0"}}), write_set({{"ox", "0"}, {"cow", "0"}, {"ant", "0"}}),
       write_set({{"cat", "0"}, {"cow", "1"}, {"ant", "0"}}), write_set({{"cat", "0"}, {"cow", "0"}, {"ant", "0"}})});
  check_close(scored.rows("joint_score"), {1, 1, 0, 0});
  check_close(scored.rows("joint_score", "{score: log}"), {1, 1, 0, 0});
}

TEST_CASE("joint_score is 0 where the set is no distribution, and its outcome is the first correct answer") {
  const Scored scored(animals(), {write_set({{"cat", "0.8"}, {"cow", "0.3"}, {"ant", "0"}}),
                                  write_set({{"cat", "0.4"}, {"Cat", "0.3"}, {"ant", "0"}}),
                                  write_set({{"cat", "0.4"}, {"cow", "0.3"}}), "",
                                  write_set({{"cat", "1"}, {"dog", "0"}, {"ant", "0"}})});
  check_close(scored.rows("joint_score"), {0, 0, 0, 0, 1});
}

TEST_CASE("joint_score is truthful about the whole distribution") {
  check_truthful_distribution("joint_score", "{}");
  check_truthful_distribution("joint_score", "{score: log, clip: 0.0001}");
}

TEST_CASE("joint_score of a part of the set: what is left out has no probability") {
  const Scored scored(animals(), {write_set({{"cat", "0.5"}, {"cow", "0.2"}, {"ant", "0.1"}})});
  // cow 0.2, none 0.8, and none it is.
  check_close(scored.subset("joint_score", {false, true, false}), {1 - 0.5 * (0.04 + 0.04)});
  check_close(scored.subset("joint_score", {false, false, false}), {1});
}
