// SPDX-License-Identifier: Apache-2.0
#include "tests/rewards/reward_fixture.h"

using namespace plural::testing;

TEST_CASE("uniqueness compares normal forms") {
  const Scored scored(animals(), {write_set({{"cat", "0.5"}, {"dog", "0.5"}, {"cow", "0.5"}}),
                                  write_set({{"cat", "0.5"}, {"The CAT.", "0.5"}, {"cow", "0.5"}}),
                                  write_set({{"...", "0.5"}, {"the", "0.5"}, {"cow", "0.5"}}),
                                  write_set({{"cat", "0.5"}, {"dog", "0.5"}}),
                                  write_set({{"cat", "0.5"}, {"...", "0.5"}, {"cow", "0.5"}})});
  check_close(scored.rows("uniqueness"), {1, 0, 0, 0, 1});
  // An answer without a word is no answer.
  check_close(scored.rows("uniqueness", "{mode: share}"), {1, 2.0 / 3, 1.0 / 3, 2.0 / 3, 2.0 / 3});
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

TEST_CASE("uniqueness by other ideas of what is the same") {
  const Scored scored(animals(), {write_set({{"cats", "0.3"}, {"cat", "0.3"}, {"The CAT.", "0.3"}}),
                                  write_set({{"house cat", "0.3"}, {"cat house", "0.3"}, {"cow", "0.3"}}),
                                  write_set({{"cat", "0.3"}, {"...", "0.3"}, {"...", "0.3"}})});
  check_close(scored.rows("uniqueness", "{mode: share, compare: normal_form}"), {2.0 / 3, 1, 1.0 / 3});
  check_close(scored.rows("uniqueness", "{mode: share, compare: word_set}"), {1.0 / 3, 2.0 / 3, 1.0 / 3});
  check_close(scored.rows("uniqueness", "{compare: word_set}"), {0, 0, 0});
  check_close(scored.rows("uniqueness", "{compare: normal_form}"), {0, 1, 0});
  // cats and cat: cosine 0.316. Character n-grams do not see the order of words.
  check_close(scored.rows("uniqueness", "{mode: share, compare: embedding}"), {2.0 / 3, 2.0 / 3, 1.0 / 3});
  check_close(scored.rows("uniqueness", "{mode: share, compare: embedding, threshold: 0.3}"),
              {1.0 / 3, 2.0 / 3, 1.0 / 3});
  check_close(scored.rows("uniqueness", "{mode: share, compare: embedding, threshold: 0.35}"),
              {2.0 / 3, 2.0 / 3, 1.0 / 3});
  check_close(scored.rows("uniqueness", "{mode: share, compare: embedding, threshold: 1}"),
              {2.0 / 3, 2.0 / 3, 1.0 / 3});
  check_close(scored.rows("uniqueness", "{compare: embedding, threshold: 0.3}"), {0, 0, 0});
  // The batch's matcher may be coarser than normal forms.
  const Scored by_words(animals(), {write_set({{"cats", "0.3"}, {"cat", "0.3"}, {"cow", "0.3"}})}, 3, "compact",
                        "word_set");
  check_close(by_words.rows("uniqueness", "{mode: share}"), {2.0 / 3});
  check_close(by_words.rows("uniqueness", "{mode: share, compare: normal_form}"), {1});
}

TEST_CASE("uniqueness of a part of the set, and of the correct answers") {
  const Scored scored(animals(), {write_set({{"cat", "0.3"}, {"ant", "0.3"}, {"cat", "0.3"}}),
                                  write_set({{"cat", "0.3"}, {"dog", "0.3"}, {"owl", "0.3"}})});
  for (const std::string compare : {"matcher", "normal_form", "word_set", "embedding"}) {
    INFO(compare);
    const std::string options = "{mode: share, compare: " + compare;
    check_close(scored.subset("uniqueness", {false, true, true}, options + "}"), {2.0 / 3, 2.0 / 3});
    check_close(scored.subset("uniqueness", {true, false, true}, options + "}"), {1.0 / 3, 2.0 / 3});
    check_close(scored.subset("uniqueness", {false, false, false}, options + "}"), {0, 0});
    check_close(scored.rows("uniqueness", options + ", correct_only: true}"), {1.0 / 3, 1});
    check_close(scored.rows("uniqueness", "{correct_only: true, compare: " + compare + "}"), {0, 1});
  }
}
