// SPDX-License-Identifier: Apache-2.0
// Numbers worked out by hand.
#include "plural/evaluation.h"

#include <cmath>

#include "lib/eval/reference_eval.h"
#include "plural/error.h"
#include "tests/support/catch.h"

using namespace plural;

TEST_CASE("ECE: equal-width bins, left edge included") {
  // Bin [0.2, 0.3): 0.2 (wrong), 0.25 (right): |0.225 - 0.5| = 0.275, weight 2/4. 0.3 starts the next bin, right:
  // |0.3 - 1| = 0.7, weight 1/4. 1.0 falls in the last bin, right: 0.
  const Forecasts points{{0.2, 0.25, 0.3, 1.0}, {0, 1, 1, 1}};
  CHECK(expected_calibration_error(points) == Approx(0.5 * 0.275 + 0.25 * 0.7));
  const auto table = reliability_table(points);
  REQUIRE(table.size() == 10);
  CHECK(table[2].count == 2);
  CHECK(table[3].count == 1);
  CHECK(table[9].count == 1);
  CHECK(table[2].mean_confidence == Approx(0.225));
  CHECK(table[2].mean_correct == 0.5);
  CHECK(std::isnan(table[0].mean_correct));
  CHECK(std::isnan(expected_calibration_error({})));
  CHECK_THROWS_AS(expected_calibration_error({{0.5}, {}}), CheckError);
}

TEST_CASE("every edge i/n starts its own bin") {
  for (const int64_t n : {3, 7, 10, 15, 49, 100})
    for (int64_t i = 0; i < n; ++i) {
      const double edge = static_cast<double>(i) / static_cast<double>(n);
      INFO(i << "/" << n);
      CHECK(reliability_table({{edge}, {1}}, n)[static_cast<size_t>(i)].count == 1);
      if (i > 0) CHECK(reliability_table({{std::nextafter(edge, 0)}, {1}}, n)[static_cast<size_t>(i - 1)].count == 1);
    }
}

TEST_CASE("ECE over equal mass") {
  // Two bins of two: (0.1 + 0.2 - 1) / 4 and (0.6 + 0.9 - 1) / 4 in absolute value.
  CHECK(equal_mass_calibration_error({{0.9, 0.1, 0.6, 0.2}, {1, 0, 0, 1}}, 2) == Approx(0.7 / 4 + 0.5 / 4));
  // Ties are not parted: all three 0.5 go to the first bin.
  CHECK(equal_mass_calibration_error({{0.5, 0.5, 0.5, 0.9}, {1, 1, 1, 0}}, 2) == Approx(1.5 / 4 + 0.9 / 4));
}

TEST_CASE("AUROC counts ordered pairs, ties one half") {
  // Right 0.8, 0.4; wrong 0.6, 0.4: pairs 0.8>0.6, 0.8>0.4, 0.4<0.6, 0.4=0.4.
  CHECK(auroc({{0.8, 0.6, 0.4, 0.4}, {1, 0, 1, 0}}) == Approx(2.5 / 4));
  CHECK(auroc({{0.1, 0.9}, {0, 1}}) == 1);
  CHECK(std::isnan(auroc({{0.1, 0.9}, {1, 1}})));
  CHECK(std::isnan(auroc({})));
}

TEST_CASE("Brier, set Brier") {
  CHECK(brier_score({{0.6, 0.3}, {1, 0}}) == Approx((0.16 + 0.09) / 2));
  const Forecasts rows[] = {{{0.6, 0.3}, {1, 0}}, {{}, {}}, {{1.0}, {0}}};
  CHECK(set_brier_sum(rows) == Approx((0.25 + 1) / 2));  // the empty row is left out
  CHECK(set_brier_mean(rows) == Approx((0.125 + 1) / 2));
  CHECK(pool(rows).confidence.size() == 3);
}

TEST_CASE("pass@k is the chance of a correct one among k of n") {
  CHECK(pass_at_k(5, 2, 1) == Approx(0.4));
  CHECK(pass_at_k(4, 2, 2) == Approx(1 - 1.0 / 6));
  CHECK(pass_at_k(4, 0, 4) == 0);
  CHECK(pass_at_k(4, 1, 4) == 1);
  CHECK(std::isnan(pass_at_k(2, 1, 3)));
  CHECK(pass_at_k(100000, 1, 10) == Approx(1e-4));
  const int64_t correct[] = {0, 2};
  CHECK(mean_pass_at_k(4, correct, 2) == Approx(2.5 / 6));
}

TEST_CASE("ranked sets") {
  const Forecasts rows[] = {{{0.1, 0.7, 0.7}, {1, 0, 1}}, {{0.2}, {1}}};
  CHECK(ranked_pass_at_k(rows, 1) == 0.5);  // 0.7 wrong stands before 0.7 right
  CHECK(ranked_pass_at_k(rows, 2) == 1.0);
  CHECK(ranked_num_correct_at_k(rows, 2) == 1.0);
  CHECK(ranked_num_correct_at_k(rows, 9) == 1.5);
}

TEST_CASE("intervals") {
  // Wilson for 8 of 10, z = 1.96: (0.8 + 0.19208 -+ 1.96 sqrt(0.016 + 0.009604)) / 1.38416.
  const Interval share = wilson_interval(8, 10, 1.96);
  CHECK(share.low == Approx((0.8 + 0.19208 - 1.96 * std::sqrt(0.016 + 0.009604)) / 1.38416));
  CHECK(share.high == Approx((0.8 + 0.19208 + 1.96 * std::sqrt(0.016 + 0.009604)) / 1.38416));
  CHECK(wilson_interval(0, 0).high == 1);
  CHECK(wilson_interval(0, 5).low == 0);

  const double values[] = {0, 0, 1, 1};
  const auto mean = [&](std::span<const int64_t> rows) {
    double sum = 0;
    for (int64_t row : rows) sum += values[row];
    return sum / static_cast<double>(rows.size());
  };
  const Interval spread = bootstrap_interval(4, mean, 0.95, 2000, 3);
  CHECK(spread.low == Approx(0).margin(0.01));  // P(0 of 4) = 1/16 > 2.5 %
  CHECK(spread.high == Approx(1).margin(0.01));
  const Interval again = bootstrap_interval(4, mean, 0.95, 2000, 3);
  CHECK(again.low == spread.low);
  const Interval middle = bootstrap_interval(4, mean, 0.2, 2000, 3);
  CHECK(middle.low == 0.5);
  CHECK(middle.high == 0.5);
}

TEST_CASE("evaluate_sets") {
  Example example;
  example.gold = {{"cat", {"kitty"}, 1}, {"dog", {}, 1}, {"owl", {}, 1}};
  const std::string texts[] = {
      "<answer1>ant</answer1><confidence1>0.25</confidence1><answer2>cat</answer2><confidence2>0.75</confidence2>",
      "<answer1>dog</answer1><confidence1>0.5</confidence1><answer2>Dog</answer2><confidence2>0.25</confidence2>",
      "<answer1>owl</answer1>"};
  std::vector<CompletionView> views;
  for (const std::string& text : texts) views.push_back({&example, text, {}, 2});
  AnswerBatch batch = build_answer_batch(views, *make_answer_format("compact"), *make_matcher("alias"), nullptr);
  batch.length = at::tensor({10, 20, 30}).to(at::kLong);
  const SetMetrics m = evaluate_sets(batch);
  CHECK(m.rows == 3);
  CHECK(m.answers == 4);
  CHECK(m.format_rate == Approx(2.0 / 3));
  CHECK(m.coverage == Approx((0.5 + 0.5 + 0.5) / 3));
  CHECK(m.any_correct == 1);
  CHECK(m.unique == Approx((1 + 0.5 + 0.5) / 3));
  CHECK(m.accuracy == Approx(4.0 / 5));
  CHECK(m.mean_confidence == Approx(1.75 / 4));
  CHECK(m.brier == Approx((0.0625 + 0.0625 + 0.25 + 0.5625) / 4));
  // Bins: {0.25 wrong, 0.25 right}, {0.5 right}, {0.75 right}.
  CHECK(m.ece == Approx(0.5 * 0.25 + 0.25 * 0.5 + 0.25 * 0.25));
  CHECK(m.auroc == Approx(2.5 / 3));
  CHECK(m.tokens == 20);
  CHECK(m.tokens_per_distinct_correct == Approx(60.0 / 3));
  CHECK(m.coverage_at[0] == Approx(2.0 / 3));  // ant; dog; owl
  CHECK(m.coverage_at[1] == Approx(0.5));
  CHECK(m.pass_at[0] == 1);  // cat 0.75; dog 0.5; owl
  CHECK(m.accuracy_by_rank[0] == 1);
  CHECK(m.accuracy_by_rank[1] == Approx(0.5));
  const auto map = to_metric_map(m);
  CHECK(map.at("coverage@1") == Approx(2.0 / 3));
  CHECK(map.at("accuracy@rank2") == Approx(0.5));
}

TEST_CASE("evaluate_sets of nothing is undefined, not zero") {
  const SetMetrics m = evaluate_sets(
      build_answer_batch({}, *make_answer_format("compact"), *make_matcher("alias"), nullptr));
  CHECK(m.rows == 0);
  CHECK(std::isnan(m.coverage));
  CHECK(std::isnan(m.ece));
}

TEST_CASE("stated probabilities of the reference evaluation") {
  CHECK(parse_stated_probability("85%") == std::optional<double>(0.85));
  CHECK(parse_stated_probability(" 0.5 ") == std::optional<double>(0.5));
  for (const char* text : {"", "85", "1.5", "about .5", "9/10", "101%", "-1%", "%", "nan"}) {
    INFO(text);
    CHECK_FALSE(parse_stated_probability(text).has_value());
  }
}

TEST_CASE("numbered blocks of the reference evaluation") {
  const auto found = read_numbered(
      "<think><answer1>draft</answer1></think><answer01>x</answer01><answer1>y</answer1>"
      "<answer3> z </answer3><confidence3>40%</confidence3><answer9>w</answer9>",
      4);
  REQUIRE(found.has_value());
  REQUIRE(found->size() == 4);  // candidates 1..K: the ninth is dropped, the missing ones are empty
  CHECK((*found)[3].text.empty());
  CHECK((*found)[0].text == "x");
  CHECK((*found)[1].text.empty());
  CHECK((*found)[2].text == "z");
  CHECK((*found)[2].confidence == std::optional<double>(0.4));
  CHECK_FALSE(read_numbered("<answer>x</answer>", 3).has_value());
}
