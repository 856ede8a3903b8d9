// SPDX-License-Identifier: Apache-2.0
#include "tests/rewards/reward_fixture.h"

using namespace plural::testing;

TEST_CASE("repetition is minus the share of n-grams that stood there before") {
  const Scored scored(animals(), {"a b a b a b",                     // aba bab aba bab: 2 of 4
                                  "One, two; THREE. one-two three",  // one two three, twice, with two between
                                  "a b c d e", "a b", "", "x x x x"});
  check_close(scored.rows("repetition"), {-0.5, -0.25, 0, 0, 0, -0.5});
  check_close(scored.rows("repetition", "{n: 1}"), {-4.0 / 6, -0.5, 0, 0, 0, -0.75});
}

TEST_CASE("repetition: other scripts have words too, and a set in its format repeats nothing") {
  const Scored scored(
      animals(), {"\xc3\xa9t\xc3\xa9 \xc3\xa9t\xc3\xa9", write_set({{"cat", "0.5"}, {"dog", "0.5"}, {"owl", "0.5"}}),
                  write_set({{"big cat", "0.5"}, {"big cat", "0.5"}, {"big cat", "0.5"}})});
  check_close(scored.rows("repetition", "{n: 1}"), {-0.5, -10.0 / 21, -14.0 / 24});
  const auto rows = scored.rows("repetition");
  CHECK(rows[1] == 0);
  CHECK(rows[2] == 0);  // numbered tags tell the copies apart: uniqueness is the reward against these
}
