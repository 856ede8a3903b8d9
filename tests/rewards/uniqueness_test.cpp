// SPDX-License-Identifier: Apache-2.0
#include "tests/rewards/reward_fixture.h"

using namespace plural::testing;

TEST_CASE("uniqueness compares normal forms") {
  const Scored scored(animals(), {write_set({{"cat", "0.5"}, {"dog", "0.5"}, {"cow", "0.5"}}),
                                  write_set({{"cat", "0.5"}, {"The CAT.", "0.5"}, {"cow", "0.5"}}),
                                  write_set({{"...", "0.5"}, {"the", "0.5"}, {"cow", "0.5"}}),
                                  write_set({{"cat", "0.5"}, {"dog", "0.5"}})});
  check_close(scored.rows("uniqueness"), {1, 0, 0, 0});
  // An answer without a word is no answer.
  check_close(scored.rows("uniqueness", "{mode: share}"), {1, 2.0 / 3, 1.0 / 3, 2.0 / 3});
}

TEST_CASE("uniqueness does not judge formats of one answer") {
  const Scored scored(animals(), {"<think>x</think><answer>cat</answer>", "nothing"}, 1, "rlvr_single_answer");
  check_close(scored.rows("uniqueness"), {1, 1});
}

TEST_CASE("uniqueness of a part of the set") {
  const Scored scored(animals(), {write_set({{"cat", "0.5"}, {"The CAT.", "0.5"}, {"cow", "0.5"}})});
  check_close(scored.subset("uniqueness", {false, true, true}, "{mode: share}"), {2.0 / 3});
  check_close(scored.subset("uniqueness", {true, true, false}, "{mode: share}"), {1.0 / 3});
  check_close(scored.subset("uniqueness", {false, false, false}, "{mode: share}"), {0});
}
