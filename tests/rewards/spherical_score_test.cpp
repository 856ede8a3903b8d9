// SPDX-License-Identifier: Apache-2.0
#include <cmath>

#include "tests/rewards/proper_score.h"

using namespace plural::testing;

TEST_CASE("spherical_score is the probability given to what is the case over the length of the forecast") {
  const Scored scored(animals(), {write_set({{"cat", "0.6"}, {"cow", "0.2"}, {"ant", "0"}})});
  const auto out = scored.score("spherical_score");
  // 0.6 / sqrt(0.36 + 0.16) = 0.832050, 0.8 / sqrt(0.04 + 0.64) = 0.970143, 1.
  check_close(Scored::values(out.row), {(0.832050294 + 0.970142500 + 1) / 3});
  check_close(Scored::values(out.per_answer), {(0.832050294 - 1) / 3, (0.970142500 - 1) / 3, 0});
}

TEST_CASE("spherical_score is truthful, and gated like brier") {
  check_truthful(ScoreGrid("spherical_score", "{}"));
  const Scored set(animals(), {write_set({{"cat", "1"}, {"dog", "1"}, {"cow", "0"}}), ""});
  check_close(set.rows("spherical_score"), {0, 0});
  check_close(set.rows("spherical_score", "{sum_at_most_one: false}"), {1, 0});
}

TEST_CASE("spherical_score of a part of the set") {
  const Scored scored(animals(), {write_set({{"cat", "0.6"}, {"cow", "0.2"}, {"ant", "0"}})});
  check_close(scored.subset("spherical_score", {true, false, false}), {1 + (0.832050294 - 1) / 3});
  check_close(scored.subset("spherical_score", {false, false, false}), {1});
}
