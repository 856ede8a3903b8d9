// SPDX-License-Identifier: Apache-2.0
#include "tests/rewards/reward_fixture.h"

using namespace plural::testing;

TEST_CASE("coverage counts different gold answers") {
  const Scored scored(animals(), {write_set({{"cat", "0.5"}, {"dog", "0.5"}, {"owl", "0.5"}}),
                                  write_set({{"cat", "0.5"}, {"House cat", "0.5"}, {"fish", "0.5"}}),
                                  write_set({{"cow", "0.5"}, {"The Dog!", "0.5"}, {"fish", "0.5"}}), ""});
  const auto out = scored.score("coverage");
  check_close(Scored::values(out.row), {1.0, 1.0 / 3, 1.0 / 3, 0.0});
  // The second spelling of cat is no second hit.
  check_close(Scored::values(out.per_answer), {1. / 3, 1. / 3, 1. / 3, 1. / 3, 0, 0, 0, 1. / 3, 0, 0, 0, 0});
}

TEST_CASE("coverage out of min(K, gold) and only with the format") {
  const std::string four = write_set({{"cat", "0.5"}, {"dog", "0.5"}, {"cow", "0.5"}, {"ant", "0.5"}});
  const std::string broken = write_set({{"cat", ""}, {"dog", "0.5"}, {"cow", "0.5"}, {"ant", "0.5"}});
  const Scored scored(animals(), {four, broken}, 4);
  check_close(scored.rows("coverage"), {0.5, 0.5});
  check_close(scored.rows("coverage", "{denominator: min_k_gold}"), {2.0 / 3, 2.0 / 3});
  check_close(scored.rows("coverage", "{require_format: true}"), {0.5, 0.0});
}

TEST_CASE("coverage of a part of the set") {
  const Scored scored(animals(), {write_set({{"cat", "0.5"}, {"House cat", "0.5"}, {"dog", "0.5"}})});
  check_close(scored.subset("coverage", {true, true, true}), {2.0 / 3});
  check_close(scored.subset("coverage", {false, true, true}), {2.0 / 3});  // the second spelling steps in
  check_close(scored.subset("coverage", {true, true, false}), {1.0 / 3});
  check_close(scored.subset("coverage", {false, false, false}), {0.0});
}
