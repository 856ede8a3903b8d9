// SPDX-License-Identifier: Apache-2.0
#include "tests/rewards/reward_fixture.h"

using namespace plural::testing;

// Negative cosines: log_det_test.cpp, with an embedder of its own.

TEST_CASE("embedding_distance is the mean over all pairs asked for") {
  const Scored scored(animals(), {write_set({{"cat", "0.3"}, {"dog", "0.3"}, {"owl", "0.3"}}),
                                  write_set({{"cat", "0.3"}, {"The CAT.", "0.3"}, {"dog", "0.3"}}),
                                  write_set({{"cat", "0.3"}, {"cats", "0.3"}}), write_set({{"cat", "0.3"}}), ""});
  // cat and cats: cosine 1/sqrt(10) (log_det_test.cpp). Two answers make one of the three pairs of K = 3.
  check_close(scored.rows("embedding_distance"), {1, 2.0 / 3, (1 - 1 / std::sqrt(10.0)) / 3, 0, 0});
  // An answer earns half of the distance of each of its pairs.
  check_close(Scored::values(scored.score("embedding_distance").per_answer[1]), {1.0 / 6, 1.0 / 6, 1.0 / 3});
}

TEST_CASE("embedding_distance of a part of the set, of the correct answers, and of one answer") {
  const Scored scored(animals(), {write_set({{"cat", "0.3"}, {"ant", "0.3"}, {"dog", "0.3"}})});
  check_close(scored.subset("embedding_distance", {true, true, false}), {1.0 / 3});
  check_close(scored.subset("embedding_distance", {true, false, false}), {0});
  check_close(scored.rows("embedding_distance", "{correct_only: true}"), {1.0 / 3});
  const Scored one(animals(), {write_set({{"cat", "0.3"}})}, 1);
  CHECK_FALSE(one.score("embedding_distance").valid.any().item<bool>());
}
