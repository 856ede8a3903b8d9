// SPDX-License-Identifier: Apache-2.0
#include <cmath>

#include "tests/rewards/proper_score.h"

using namespace plural::testing;

TEST_CASE("log_score is the clipped logarithm of the probability given to what is the case") {
  const Scored scored(animals(), {write_set({{"cat", "0.5"}, {"cow", "0.25"}, {"ant", "0.1"}})});
  const auto out = scored.score("log_score", "{clip: 0.01}");
  // ln 0.5 = -0.693147, ln 0.75 = -0.287682, ln 0.9 = -0.105361, out of ln 100 = 4.605170.
  const double full = 4.605170186;
  check_close(Scored::values(out.row), {1 - (0.693147181 + 0.287682072 + 0.105360516) / (3 * full)});
  const double best = std::log(0.99) / full;  // of a slot known to be wrong
  check_close(Scored::values(out.per_answer),
              {(-0.693147181 / full - best) / 3, (-0.287682072 / full - best) / 3, (-0.105360516 / full - best) / 3});
}

TEST_CASE("log_score runs from 0 for a sure miss to nearly 1, and is gated like brier") {
  const Scored one(animals(), {write_set({{"cow", "1"}}), write_set({{"cat", "0"}}), write_set({{"cat", "1"}})}, 1);
  check_close(one.rows("log_score", "{clip: 0.01}"), {0, 0, 1 + std::log(0.99) / 4.605170186});
  const Scored set(animals(), {write_set({{"cat", "1"}, {"dog", "1"}, {"cow", "0"}}), ""});
  check_close(set.rows("log_score"), {0, 0});  // the confidences sum to 2
  CHECK(set.rows("log_score", "{sum_at_most_one: false}")[0] > 0.99);
}

TEST_CASE("log_score is truthful") {
  check_truthful(ScoreGrid("log_score", "{}"), 1);
  check_truthful(ScoreGrid("log_score", "{clip: 0.001}"), 1);
}

TEST_CASE("log_score of a part of the set") {
  const Scored scored(animals(), {write_set({{"cat", "0.5"}, {"cow", "0.25"}, {"ant", "0.1"}})});
  const double best = std::log(0.99) / 4.605170186;
  check_close(scored.subset("log_score", {false, false, false}, "{clip: 0.01}"), {1 + best});
  check_close(scored.subset("log_score", {true, false, false}, "{clip: 0.01}"),
              {1 + best + (-0.693147181 / 4.605170186 - best) / 3});
}
