// SPDX-License-Identifier: Apache-2.0
#include "tests/rewards/proper_score.h"

using namespace plural::testing;

namespace {
const char* const kOpen = "{sum_at_most_one: false, require_unique: false}";
}

TEST_CASE("brier is 1 minus the mean squared error of the confidences") {
  const Scored scored(animals(), {write_set({{"cat", "0.6"}, {"cow", "0.3"}, {"dog", "0.1"}})});
  const auto out = scored.score("brier");
  // (0.6-1)^2 = 0.16, 0.3^2 = 0.09, (0.1-1)^2 = 0.81; sum 1.06.
  check_close(Scored::values(out.row), {1 - 1.06 / 3});
  check_close(Scored::values(out.per_answer), {-0.16 / 3, -0.09 / 3, -0.81 / 3});
}

TEST_CASE("brier is gated") {
  const Scored scored(animals(), {write_set({{"cat", "1"}, {"dog", "1"}, {"cow", "0"}}),  // sums to 2
                                  write_set({{"cat", "1"}, {"Cat", "0"}, {"cow", "0"}}),  // repeats cat
                                  write_set({{"cat", "1"}, {"dog", "1"}, {"cow", ""}}),   // no third confidence
                                  ""});
  check_close(scored.rows("brier"), {0, 0, 0, 0});
  check_close(scored.rows("brier", kOpen), {1, 1 - 1.0 / 3, 0, 0});
  // Without the format gate a missing confidence is the worst forecast of its slot only.
  check_close(scored.rows("brier", "{sum_at_most_one: false, require_unique: false, require_format: false}"),
              {1, 1 - 1.0 / 3, 1 - 1.0 / 3, 0});
}

TEST_CASE("brier wants a confidence for each answer where the format asks for none") {
  const std::string think = "<think>t</think><answer1>cat</answer1><confidence1>1</confidence1><answer2>dog</answer2>";
  const Scored scored(animals(), {think, think + "<confidence2>0</confidence2>"}, 2, "multi_answer_rlvr");
  check_close(scored.rows("brier"), {0, 0.5});
  check_close(scored.rows("brier", "{require_format: false}"), {0.5, 0.5});
}

TEST_CASE("brier: a repeated hit is correct or wrong as configured") {
  const Scored scored(animals(), {write_set({{"cat", "1"}, {"house cat", "1"}, {"cow", "0"}})});
  check_close(scored.rows("brier", "{sum_at_most_one: false}"), {1});
  check_close(scored.rows("brier", "{sum_at_most_one: false, duplicates: wrong}"), {1 - 1.0 / 3});
}

TEST_CASE("brier: row = 1 + the sum of the answers' parts, also where it is gated") {
  const Scored scored(animals(), {write_set({{"cat", "0.6"}, {"cow", "0.3"}, {"dog", "0.1"}}), ""});
  const auto out = scored.score("brier");
  check_close(Scored::values(1 + out.per_answer.sum(1)), Scored::values(out.row));
}

TEST_CASE("brier of a part of the set: slots left out cost nothing, the gates judge the whole") {
  const Scored scored(animals(), {write_set({{"cat", "0.6"}, {"House cat", "0.3"}, {"dog", "0.1"}}), ""});
  const std::string options = "{sum_at_most_one: false, duplicates: wrong}";
  check_close(scored.subset("brier", {true, true, true}, options), {1 - (0.16 + 0.09 + 0.81) / 3, 0});
  check_close(scored.subset("brier", {false, true, false}, options), {1 - 0.49 / 3, 0});  // now the first hit
  check_close(scored.subset("brier", {false, false, false}, options), {1, 0});
}

TEST_CASE("brier is truthful") { check_truthful(ScoreGrid("brier", "{}")); }

TEST_CASE("coverage and brier pay for deliberate misses exactly where the weights say so") {
  // The slot reward lam z - (mu / K) (q - z)^2, here with K = 1: safe iff lam >= mu.
  const auto threshold = [](double lam, double mu) {
    ScoreGrid coverage("coverage", "{}"), brier("brier", "{}");
    for (size_t i = 0; i < brier.right.size(); ++i) {
      brier.right[i] = lam * coverage.right[i] + mu * brier.right[i];
      brier.wrong[i] = lam * coverage.wrong[i] + mu * brier.wrong[i];
    }
    check_truthful(brier);
    return refusal_threshold(brier);
  };
  CHECK(threshold(1, 1) == 0);
  CHECK(threshold(0.5, 0.4) == 0);
  CHECK(threshold(0.5, 1) == Approx(0.5));  // lam p - mu p (1 - p) >= 0 iff p >= 1 - lam / mu
  CHECK(threshold(0, 1) == Approx(1));
}
