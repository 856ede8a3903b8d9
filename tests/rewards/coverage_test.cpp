// SPDX-License-Identifier: Apache-2.0
#include "tests/rewards/reward_fixture.h"

using namespace plural;
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

TEST_CASE("coverage: a gold answer that is listed twice, or that nothing can match, is not missed") {
  // Cat and "the cat" are one, kitten is an alias of it, and "an" has no normal form: cat (weight 2 + 1 + 2) and dog
  // (3) are left. Three answers can hit two.
  const std::vector<GoldAnswer> gold = {
      {"cat", {"kitten"}, 2}, {"The Cat.", {}, 1}, {"kitten", {}, 2}, {"an", {}, 9}, {"dog", {}, 3}};
  const Scored scored(gold, {write_set({{"cat", "0.5"}, {"dog", "0.3"}, {"cow", "0.1"}}),
                             write_set({{"kitten", "0.5"}, {"a cat", "0.3"}, {"an", "0.1"}})});
  check_close(scored.rows("coverage", "{denominator: min_k_gold}"), {1, 0.5});
  check_close(scored.rows("coverage"), {2.0 / 3, 1.0 / 3});
  check_close(scored.rows("coverage", "{value: gold_mass}"), {1, 5.0 / 8});
  check_close(scored.rows("coverage", "{value: gold_mass, denominator: min_k_gold}"), {1, 5.0 / 8});
}

TEST_CASE("coverage of a part of the set") {
  const Scored scored(animals(), {write_set({{"cat", "0.5"}, {"House cat", "0.5"}, {"dog", "0.5"}})});
  check_close(scored.subset("coverage", {true, true, true}), {2.0 / 3});
  check_close(scored.subset("coverage", {false, true, true}), {2.0 / 3});  // the second spelling steps in
  check_close(scored.subset("coverage", {true, true, false}), {1.0 / 3});
  check_close(scored.subset("coverage", {false, false, false}), {0.0});
}

TEST_CASE("coverage of the gold answers' probability") {
  // Weights 2, 1, 1: cat has half of the mass.
  const Scored scored(animals(), {write_set({{"cow", "0.5"}, {"cat", "0.5"}, {"house cat", "0.5"}}),
                                  write_set({{"dog", "0.5"}, {"owl", "0.5"}, {"cow", "0.5"}}),
                                  write_set({{"cat", "0.5"}, {"dog", "0.5"}, {"owl", "0.5"}}), ""});
  const auto out = scored.score("coverage", "{value: gold_mass}");
  check_close(Scored::values(out.row), {0.5, 0.5, 1, 0});
  check_close(Scored::values(out.per_answer[1]), {0.25, 0.25, 0});
  // With two answers the best set holds 3/4 of the mass.
  const Scored two(animals(),
                   {write_set({{"cat", "0.5"}, {"dog", "0.5"}}), write_set({{"cow", "0.5"}, {"dog", "0.5"}})}, 2);
  check_close(two.rows("coverage", "{value: gold_mass}"), {0.75, 0.25});
  check_close(two.rows("coverage", "{value: gold_mass, denominator: min_k_gold}"), {1, 1.0 / 3});
}

TEST_CASE("coverage with later answers counting less") {
  const Scored scored(animals(), {write_set({{"cat", "0.5"}, {"cow", "0.5"}, {"dog", "0.5"}}),
                                  write_set({{"cow", "0.5"}, {"ant", "0.5"}, {"cat", "0.5"}})});
  // 1 / log2(1 + r) is 1, 0.630930, 0.5 for r = 1, 2, 3.
  const double all = 1 + 0.630929754 + 0.5;
  const auto out = scored.score("coverage", "{discount: log2}");
  check_close(Scored::values(out.row), {1.5 / all, 0.5 / all});
  check_close(Scored::values(out.per_answer[0]), {1 / all, 0, 0.5 / all});
  // cat first and dog second is the best: 0.5 * 1 + 0.25 * 0.630930 + 0.25 * 0.5.
  const double best = 0.5 + 0.25 * (0.630929754 + 0.5);
  check_close(scored.rows("coverage", "{discount: log2, value: gold_mass}"), {0.5 + 0.125, 0.25});
  check_close(scored.rows("coverage", "{discount: log2, value: gold_mass, denominator: min_k_gold}"),
              {0.625 / best, 0.25 / best});
  const Scored five(animals(), {write_set({{"cat", "0"}, {"dog", "0"}, {"owl", "0"}, {"ant", "0"}, {"cow", "0"}})}, 5);
  check_close(five.rows("coverage", "{discount: log2, denominator: min_k_gold}"), {1});
}

TEST_CASE("coverage of a part of the set: slots keep their ranks") {
  const Scored scored(animals(), {write_set({{"cat", "0.5"}, {"House cat", "0.5"}, {"dog", "0.5"}})});
  const std::string options = "{value: gold_mass, discount: log2}";
  check_close(scored.subset("coverage", {true, true, true}, options), {0.5 + 0.125});
  check_close(scored.subset("coverage", {false, true, true}, options), {0.5 * 0.630929754 + 0.125});
  check_close(scored.subset("coverage", {false, false, true}, options), {0.125});
}

TEST_CASE("coverage: what one more hit earns at least") {
  const auto margin = [](const std::string& options, bool exclusive = false) {
    return builtin_rewards().make("coverage", parse_yaml(options, "o"))->zero_confidence_margin(3, exclusive);
  };
  CHECK(margin("{}") == Approx(1.0 / 3));
  CHECK(margin("{denominator: min_k_gold}") == Approx(1.0 / 3));
  CHECK(margin("{denominator: min_k_gold}", true) == 1);
  CHECK(margin("{discount: log2}") == Approx(0.5 / 2.130929754));
  CHECK(margin("{value: gold_mass}") == 0);  // of a gold answer that is next to never given
  CHECK(margin("{value: gold_mass}", true) == 1);
}
