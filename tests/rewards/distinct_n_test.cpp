// SPDX-License-Identifier: Apache-2.0
#include "tests/rewards/reward_fixture.h"

using namespace plural::testing;

TEST_CASE("distinct_n counts different n-grams of words") {
  const Scored scored(animals(),
                      {write_set({{"big red house", "0.3"}, {"The big red cat", "0.3"}, {"dog", "0.3"}}),
                       write_set({{"big big big", "0.3"}, {"...", "0.3"}}), write_set({{"cat", "0.3"}}), ""});
  // Words: big red house | big red cat | dog: 5 of 7. A set of one answer of the three gets a third of its value.
  check_close(scored.rows("distinct_n"), {5.0 / 7, 1.0 / 3 / 3, 1.0 / 3, 0});
  check_close(Scored::values(scored.score("distinct_n").per_answer[0]), {3.0 / 7, 1.0 / 7, 1.0 / 7});
  // Pairs: big red, red house | big red, red cat: 3 of 4. Pairs do not cross answers; one word has none.
  check_close(scored.rows("distinct_n", "{n: 2}"), {3.0 / 4, 1.0 / 2 / 3, 0, 0});
}

TEST_CASE("distinct_n of a part of the set, and of the correct answers") {
  const Scored scored(animals(), {write_set({{"house cat", "0.3"}, {"cat", "0.3"}, {"house ant", "0.3"}})});
  check_close(scored.subset("distinct_n", {true, true, true}), {3.0 / 5});
  check_close(scored.subset("distinct_n", {false, true, true}), {2.0 / 3});
  check_close(scored.subset("distinct_n", {false, false, false}), {0});
  check_close(scored.rows("distinct_n", "{correct_only: true}"), {2.0 / 3 * 2.0 / 3});
}
