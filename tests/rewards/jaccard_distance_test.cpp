// SPDX-License-Identifier: Apache-2.0
#include "tests/rewards/reward_fixture.h"

using namespace plural::testing;

TEST_CASE("jaccard_distance compares sets of singular-folded words") {
  const Scored scored(animals(), {write_set({{"house cat", "0.3"}, {"The cat", "0.3"}, {"big house", "0.3"}}),
                                  write_set({{"cats", "0.3"}, {"Cat!", "0.3"}, {"dog", "0.3"}}),
                                  write_set({{"cat", "0.3"}, {"...", "0.3"}, {"dog", "0.3"}}), ""});
  // {house, cat} and {cat}: 1 - 1/2; and {big, house}: 1 - 1/3; {cat} and {big, house}: 1.
  const double first = 1.0 / 2, second = 2.0 / 3, third = 1;
  // cats is cat. A slot without a word makes no pair.
  check_close(scored.rows("jaccard_distance"), {(first + second + third) / 3, 2.0 / 3, 1.0 / 3, 0});
  // An answer earns half of the distance of each of its pairs.
  check_close(Scored::values(scored.score("jaccard_distance").per_answer[0]),
              {(first + second) / 6, (first + third) / 6, (second + third) / 6});
}

TEST_CASE("jaccard_distance of a part of the set, of the correct answers, and of one answer") {
  const Scored scored(animals(), {write_set({{"cat", "0.3"}, {"ant", "0.3"}, {"dog", "0.3"}})});
  check_close(scored.subset("jaccard_distance", {true, true, true}), {1});
  check_close(scored.subset("jaccard_distance", {false, true, true}), {1.0 / 3});
  check_close(scored.subset("jaccard_distance", {false, true, false}), {0});
  check_close(scored.rows("jaccard_distance", "{correct_only: true}"), {1.0 / 3});
  const Scored one(animals(), {write_set({{"cat", "0.3"}})}, 1);
  CHECK_FALSE(one.score("jaccard_distance").valid.any().item<bool>());
}
