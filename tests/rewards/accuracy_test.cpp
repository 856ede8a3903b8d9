// SPDX-License-Identifier: Apache-2.0
#include "tests/rewards/reward_fixture.h"

using namespace plural::testing;

TEST_CASE("accuracy needs the format and, in sets with confidences, different answers") {
  const Scored scored(animals(), {write_set({{"cow", "0.5"}, {"dog", "0.5"}, {"ant", "0.5"}}),
                                  write_set({{"dog", "0.5"}, {"dog", "0.5"}, {"ant", "0.5"}}),
                                  write_set({{"dog", "2"}, {"cat", "0.5"}, {"ant", "0.5"}}),
                                  write_set({{"bee", "0.5"}, {"cow", "0.5"}, {"ant", "0.5"}})});
  check_close(scored.rows("accuracy"), {1, 0, 0, 0});
  check_close(scored.rows("accuracy", "{enforce_uniqueness: never}"), {1, 1, 0, 0});
}

TEST_CASE("accuracy counts different correct answers out of K") {
  const Scored scored(animals(), {write_set({{"cat", "0.5"}, {"house cat", "0.5"}, {"ant", "0.5"}}),
                                  write_set({{"cat", "0.5"}, {"CAT", "0.5"}, {"dog", "0.5"}})});
  check_close(scored.rows("accuracy", "{more_than_one_correctness_point: true}"), {2.0 / 3, 0});
  check_close(scored.rows("accuracy", "{more_than_one_correctness_point: true, enforce_uniqueness: never}"),
              {2.0 / 3, 2.0 / 3});
}

TEST_CASE("accuracy does not enforce uniqueness in formats without confidences unless told to") {
  const std::string twice = "<think>x</think><answer1>cat</answer1><answer2>cat</answer2>";
  const Scored scored(animals(), {twice}, 2, "multi_answer_rlvr");
  check_close(scored.rows("accuracy"), {1});
  check_close(scored.rows("accuracy", "{enforce_uniqueness: always}"), {0});
}

TEST_CASE("accuracy of a part of the set: hits are those of the part, format and duplicates those of the whole") {
  const Scored scored(animals(), {write_set({{"cow", "0.5"}, {"dog", "0.5"}, {"cat", "0.5"}}),
                                  write_set({{"cat", "0.5"}, {"cat", "0.5"}, {"ant", "0.5"}})});
  check_close(scored.subset("accuracy", {true, true, false}), {1, 0});
  check_close(scored.subset("accuracy", {true, false, false}), {0, 0});
  const std::string share = "{more_than_one_correctness_point: true, enforce_uniqueness: never}";
  check_close(scored.subset("accuracy", {true, true, true}, share), {2.0 / 3, 1.0 / 3});
  check_close(scored.subset("accuracy", {false, true, true}, share), {2.0 / 3, 1.0 / 3});  // the repeat steps in
  check_close(scored.subset("accuracy", {false, false, true}, share), {1.0 / 3, 0});
}

TEST_CASE("accuracy: what one more hit earns at least") {
  const auto margin = [](const std::string& options, int64_t k, bool exclusive) {
    return plural::builtin_rewards()
        .make("accuracy", plural::parse_yaml(options, "options"))
        ->zero_confidence_margin(k, exclusive);
  };
  CHECK(margin("{}", 1, false) == 1);
  CHECK(margin("{}", 3, false) == 0);
  CHECK(margin("{}", 3, true) == 1);
  CHECK(margin("{more_than_one_correctness_point: true}", 3, false) == Approx(1.0 / 3));
}
