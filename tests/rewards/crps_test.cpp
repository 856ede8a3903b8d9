// SPDX-License-Identifier: Apache-2.0
#include "tests/rewards/exclusive_forecast.h"

using namespace plural::testing;

TEST_CASE("crps compares the sums of the confidences with where the right answer stands") {
  const Scored scored(animals(), {write_set({{"cow", "0.5"}, {"cat", "0.3"}, {"ant", "0.1"}}),
                                  write_set({{"cow", "0.5"}, {"ox", "0.3"}, {"ant", "0.1"}}),
                                  write_set({{"cat", "1"}, {"ox", "0"}, {"ant", "0"}}),
                                  write_set({{"ox", "1"}, {"ant", "0"}, {"cat", "0"}}), ""});
  // Sums 0.5, 0.8, 0.9 against 0, 1, 1 and against 0, 0, 0; a near miss is better than a far one.
  check_close(scored.rows("crps"), {1 - (0.25 + 0.04 + 0.01) / 3, 1 - (0.25 + 0.64 + 0.81) / 3, 1, 1.0 / 3, 0});
}

TEST_CASE("crps is truthful about the whole distribution") { check_truthful_distribution("crps", "{}"); }

TEST_CASE("crps is 0 where the set is no distribution") {
  const Scored scored(animals(), {write_set({{"cat", "0.8"}, {"cow", "0.3"}, {"ant", "0"}}),
                                  write_set({{"cat", "0.8"}, {"cow", ""}, {"ant", "0"}})});
  check_close(scored.rows("crps"), {0, 0});
}

TEST_CASE("crps of a part of the set: what is left out has no probability") {
  const Scored scored(animals(), {write_set({{"cow", "0.5"}, {"cat", "0.3"}, {"ant", "0.1"}})});
  check_close(scored.subset("crps", {false, true, true}), {1 - (0.0 + 0.49 + 0.36) / 3});
  check_close(scored.subset("crps", {true, false, false}), {1 - (0.25 + 0.25 + 0.25) / 3});
  check_close(scored.subset("crps", {false, false, false}), {1});
}
