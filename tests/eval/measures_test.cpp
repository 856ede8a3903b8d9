// SPDX-License-Identifier: Apache-2.0
// Numbers worked out by hand.
#include "plural/evaluation.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <set>

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

TEST_CASE("debiased calibration error (Kumar, Liang and Ma)") {
  // Two bins of two: confidences .1 .2 with outcomes 0 1, and .6 .9 with 0 1. Gaps .15 - .5 and .75 - .5; both have
  // y (1 - y) / (n - 1) = .25.
  const Forecasts points{{0.9, 0.1, 0.6, 0.2}, {1, 0, 0, 1}};
  CHECK(debiased_squared_calibration_error(points, 2) ==
        Approx(0.5 * (0.35 * 0.35 - 0.25) + 0.5 * (0.25 * 0.25 - 0.25)));
  CHECK(debiased_calibration_error(points, 2) == 0);  // a negative estimate
  // One bin of four, all wrong: no variance to take off, gap .45.
  CHECK(debiased_calibration_error({{0.9, 0.1, 0.6, 0.2}, {0, 0, 0, 0}}, 1) == Approx(0.45));
  // A bin of one point says nothing.
  CHECK(debiased_squared_calibration_error({{0.9, 0.1}, {0, 0}}, 2) == 0);
  CHECK(std::isnan(debiased_calibration_error({})));
}

TEST_CASE("the debiased error has the right expectation, the plain one is too large") {
  // Eight points of confidence .7, each right with probability .4: the true squared error is .09. All outcomes are
  // enumerated, weighted by their chance.
  double debiased = 0, plain = 0;
  for (int outcome = 0; outcome < 256; ++outcome) {
    Forecasts points;
    double chance = 1;
    for (int i = 0; i < 8; ++i) {
      const bool right = (outcome >> i) & 1;
      points.confidence.push_back(0.7);
      points.correct.push_back(right);
      chance *= right ? 0.4 : 0.6;
    }
    debiased += chance * debiased_squared_calibration_error(points, 1);
    plain += chance * std::pow(expected_calibration_error(points, 1), 2);
  }
  CHECK(debiased == Approx(0.09));
  CHECK(plain == Approx(0.09 + 0.24 / 8));
}

TEST_CASE("Brier decomposition") {
  // Confidence .2 twice (0, 1) and .8 twice (1, 1): y = .5 and 1, accuracy .75.
  const Forecasts points{{0.2, 0.2, 0.8, 0.8}, {0, 1, 1, 1}};
  const BrierDecomposition parts = decompose_brier(points, 0);
  CHECK(parts.reliability == Approx(0.5 * 0.09 + 0.5 * 0.04));
  CHECK(parts.resolution == Approx(0.0625));
  CHECK(parts.uncertainty == Approx(0.1875));
  CHECK(parts.within_bins == Approx(0).margin(1e-15));
  CHECK(parts.reliability - parts.resolution + parts.uncertainty == Approx(brier_score(points)));

  // In one bin the four confidences differ by .3 from their mean: .09 - 2 * mean of (q - .5) (z - .75), which is
  // (.225 - .075 + .075 + .075) / 4.
  const BrierDecomposition coarse = decompose_brier(points, 1);
  CHECK(coarse.resolution == 0);
  CHECK(coarse.reliability == Approx(0.0625));
  CHECK(coarse.within_bins == Approx(0.09 - 2 * 0.3 / 4));
  CHECK(coarse.reliability - coarse.resolution + coarse.uncertainty + coarse.within_bins ==
        Approx(brier_score(points)));
  CHECK(std::isnan(decompose_brier({}).reliability));
}

TEST_CASE("calibration by group") {
  const Forecasts points{{0.9, 0.5, 0.7, 0.5}, {1, 0, 0, 1}};
  const std::string groups[] = {"cat", "dog", "cat", "dog"};
  const auto table = calibration_by_group(points, groups);
  REQUIRE(table.size() == 2);
  CHECK(table[0].group == "cat");
  CHECK(table[0].count == 2);
  CHECK(table[0].accuracy == 0.5);
  CHECK(table[0].mean_confidence == Approx(0.8));
  CHECK(table[0].brier == Approx((0.01 + 0.49) / 2));
  CHECK(table[0].ece == Approx(0.5 * 0.1 + 0.5 * 0.7));
  CHECK(table[1].ece == Approx(0).margin(1e-15));
  CHECK(classwise_calibration_error(points, groups, 2) == Approx(0.2));  // (.4 + 0) / 2
  CHECK(std::isnan(classwise_calibration_error(points, groups, 3)));
  CHECK_THROWS_AS(calibration_by_group(points, {groups, 3}), CheckError);
}

TEST_CASE("distance from a known distribution") {
  const double p[] = {0.5, 0.25, 0.25}, q[] = {0.25, 0.25, 0.5};
  CHECK(total_variation(p, q) == Approx(0.25));
  CHECK(kl_divergence(p, q) == Approx(0.5 * std::log(2.0) - 0.25 * std::log(2.0)));
  const double sure[] = {1, 0};
  const double wrong[] = {0, 1};
  CHECK(std::isinf(kl_divergence(sure, wrong)));
  CHECK(kl_divergence(sure, wrong, 0.01) == Approx(std::log(1.01 / 0.01)));
  CHECK(kl_divergence(sure, sure) == 0);

  // Known .5 and .3 (others .2), stated .6 and .2 (others .2).
  const double known[] = {0.5, 0.3}, stated[] = {0.6, 0.2}, too_much[] = {0.9, 0.6};
  const KnownDistance near = distance_from_known(stated, known);
  CHECK(near.total_variation == Approx(0.1));
  CHECK(near.kl == Approx(0.5 * std::log(0.5 / 0.6) + 0.3 * std::log(0.3 / 0.2)));
  // Stated .9 + .6 = 1.5 become .6 and .4, and nothing is left for others.
  CHECK(distance_from_known(too_much, known).total_variation == Approx((0.1 + 0.1 + 0.2) / 2));
  CHECK(std::isnan(distance_from_known({}, {}).kl));
}

TEST_CASE("diversity of texts") {
  const std::string texts[] = {"red cat", "red dog", "red cat"};
  CHECK(distinct_n(texts, 1) == Approx(3.0 / 6));
  CHECK(distinct_n(texts, 2) == Approx(2.0 / 3));
  CHECK(std::isnan(distinct_n(texts, 3)));
  CHECK(mean_pairwise_jaccard(texts) == Approx((1.0 / 3 + 1 + 1.0 / 3) / 3));
  CHECK(std::isnan(mean_pairwise_jaccard({texts, 1})));
  // BLEU-1 of "red dog" is 1/2, of the others 1.
  CHECK(self_bleu(texts, 1) == Approx(2.5 / 3));
  // With 2-grams the second has no match: 0.
  CHECK(self_bleu(texts, 2) == Approx(2.0 / 3));
  // Clipping: of "a a a" one a counts. Brevity: "x y" against a reference of 4 words has exp(1 - 4 / 2).
  const std::string clipped[] = {"a a a", "a"};
  CHECK(self_bleu(clipped, 1) == Approx((1.0 / 3 + std::exp(1.0 - 3)) / 2));
  // Of references of 3 words and 1, equally close to 2, the shorter counts: no brevity penalty for "x y". x y z: 2 of
  // its words occur; x: exp(1 - 2), as 2 words are closest.
  const std::string close[] = {"x y", "x y z", "x"};
  CHECK(self_bleu(close, 1) == Approx((1 + 2.0 / 3 + std::exp(-1.0)) / 3));
  const std::string brief[] = {"x y", "x y z w"};
  CHECK(self_bleu(brief, 2) == Approx((std::exp(-1.0) + std::sqrt(0.5 * 1.0 / 3)) / 2));
}

TEST_CASE("Vendi score: an effective number of items") {
  CHECK(vendi_score(at::eye(4, at::kDouble)) == Approx(4));
  CHECK(vendi_score(at::ones({4, 4}, at::kDouble)) == Approx(1));
  // Two alike and one other: eigenvalues 2/3, 1/3, 0.
  Tensor pair = at::eye(3, at::kDouble);
  pair[0][1] = pair[1][0] = 1;
  CHECK(vendi_score(pair) == Approx(std::exp(-2.0 / 3 * std::log(2.0 / 3) - 1.0 / 3 * std::log(1.0 / 3))));
  CHECK(std::isnan(vendi_score(at::zeros({0, 0}, at::kDouble))));
  const std::string texts[] = {"a b", "b c", "", ""};
  const Tensor similarity = jaccard_similarity(texts);
  CHECK(similarity[0][1].item<double>() == Approx(1.0 / 3));
  CHECK(similarity[2][3].item<double>() == 1);
  CHECK(similarity[0][2].item<double>() == 0);
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
  // Values 0, 1, 2, 3, 4, whatever is drawn: the quantiles at 0.2 and 0.8 lie at 0.8 and 3.2.
  double calls = 0;
  const Interval between = bootstrap_interval(
      3, [&](std::span<const int64_t>) { return calls++; }, 0.6, 5, 1);
  CHECK(between.low == Approx(0.8));
  CHECK(between.high == Approx(3.2));
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
  CHECK(m.pass_at[0] == 1);                           // cat 0.75; dog 0.5; owl
  CHECK(m.precision == Approx((0.5 + 0.5 + 1) / 3));  // over what is stated
  CHECK(m.recall == Approx(1.0 / 3));
  CHECK(m.f1 == Approx((2.0 / 5 + 2.0 / 5 + 2.0 / 4) / 3));
  CHECK(m.accuracy_by_rank[0] == 1);
  CHECK(m.accuracy_by_rank[1] == Approx(0.5));
  const auto map = to_metric_map(m);
  CHECK(map.at("coverage@1") == Approx(2.0 / 3));
  CHECK(map.at("accuracy@rank2") == Approx(0.5));
}

namespace {

/// Rows of a compact set over the gold answers cat .5, dog .3, owl .2.
AnswerBatch animal_sets(std::span<const std::string> texts, const std::vector<int64_t>& k) {
  static const Example example = [] {
    Example animals;
    animals.gold = {{"cat", {}, 5}, {"dog", {}, 3}, {"owl", {}, 2}};
    return animals;
  }();
  std::vector<CompletionView> views;
  for (size_t row = 0; row < texts.size(); ++row) views.push_back({&example, texts[row], {}, k[row]});
  return build_answer_batch(views, *make_answer_format("compact"), *make_matcher("alias"), nullptr, at::kCPU,
                            at::kDouble);
}
AnswerBatch animal_sets(std::span<const std::string> texts, int64_t k) {
  return animal_sets(texts, std::vector<int64_t>(texts.size(), k));
}

std::string set_text(const std::vector<std::pair<std::string, std::string>>& answers) {
  std::string text;
  for (size_t i = 0; i < answers.size(); ++i) {
    const std::string n = std::to_string(i + 1);
    text += "<answer" + n + ">" + answers[i].first + "</answer" + n + "><confidence" + n + ">" + answers[i].second +
            "</confidence" + n + ">";
  }
  return text;
}

}  // namespace

TEST_CASE("set Brier scores: an answer without a usable confidence counts as 0, a set without answers not at all") {
  const std::string texts[] = {set_text({{"cat", "0.6"}, {"dog", "high"}}), "nothing"};
  const SetMetrics m = evaluate_sets(animal_sets(texts, 2));
  CHECK(m.set_brier_sum == Approx(0.16 + 1));
  CHECK(m.set_brier_mean == Approx((0.16 + 1) / 2));
  CHECK(m.brier == Approx(0.16));
  const std::string none[] = {set_text({{"cat", "high"}})};
  CHECK(std::isnan(evaluate_sets(animal_sets(none, 1)).set_brier_sum));
}

TEST_CASE("evaluate_sets: precision, recall, ranks, diversity, distance") {
  const std::string texts[] = {set_text({{"ant", "0.1"}, {"cat", "0.6"}, {"cat", "0.5"}}),
                               set_text({{"dog", "0.3"}, {"big owl", "x"}, {"cat", "0.4"}})};
  AnswerBatch batch = animal_sets(texts, 3);
  batch.length = at::tensor({30, 50}).to(at::kLong);
  const SetMetrics m = evaluate_sets(batch);
  CHECK(m.distinct_correct == Approx(1.5));
  CHECK(m.precision == Approx((1.0 / 3 + 2.0 / 3) / 2));
  CHECK(m.recall == Approx((1.0 / 3 + 2.0 / 3) / 2));
  CHECK(m.f1 == Approx((2.0 / 6 + 4.0 / 6) / 2));
  CHECK(m.gold_mass == Approx((0.5 + 0.8) / 2));
  CHECK(m.confidence_adherence == Approx(5.0 / 6));
  CHECK(m.tokens_per_correct == Approx(80.0 / 4));
  CHECK(m.tokens_per_distinct_correct == Approx(80.0 / 3));
  CHECK(m.coverage_at[0] == Approx(0.5));        // ant; dog
  CHECK(m.coverage_by_rank[0] == Approx(1));     // cat .6; cat .4
  CHECK(m.coverage_by_rank[1] == Approx(0.75));  // cat cat; cat dog
  CHECK(m.coverage_by_rank[2] == Approx(0.5));
  CHECK(m.pass_at[2] == 1);  // two hits of a row are one pass
  // "big owl", a miss, counts as sure of it.
  CHECK(m.set_brier_sum == Approx((0.01 + 0.16 + 0.25 + 0.49 + 0 + 0.36) / 2));
  CHECK(m.set_brier_mean == Approx(((0.01 + 0.16 + 0.25) / 3 + (0.49 + 0 + 0.36) / 3) / 2));
  CHECK(m.ece_by_slot[0] == Approx((0.1 + 0.7) / 2));
  CHECK(m.ece_by_slot[1] == Approx(0.4));
  CHECK(m.ece_by_slot[2] == Approx((0.5 + 0.6) / 2));
  // First row: ant .1 (known 0), cat .6 (.5), others .3 (.5). Second: dog .3 (.3), cat .4 (.5), others .3 (.2).
  CHECK(m.total_variation == Approx((0.2 + 0.1) / 2));
  CHECK(m.kl == Approx((0.5 * std::log(0.5 / 0.6) + 0.5 * std::log(0.5 / 0.3) + 0.5 * std::log(0.5 / 0.4) +
                        0.2 * std::log(0.2 / 0.3)) /
                       2));
  CHECK(m.distinct_1 == Approx((2.0 / 3 + 1) / 2));
  CHECK(m.distinct_2 == Approx(1));  // "big owl"; the first row has no 2-grams
  CHECK(m.jaccard == Approx((1.0 / 3 + 0) / 2));
  CHECK(m.vendi == Approx((std::exp(-2.0 / 3 * std::log(2.0 / 3) - 1.0 / 3 * std::log(1.0 / 3)) + 3) / 2));
  CHECK(m.brier_parts.reliability - m.brier_parts.resolution + m.brier_parts.uncertainty + m.brier_parts.within_bins ==
        Approx(m.brier));
  CHECK(std::isnan(m.ece_classwise));  // no answer is stated ten times
  CHECK(std::isnan(evaluate_sets(animal_sets(texts, 3)).tokens));
}

TEST_CASE("evaluate_sets: rows that were asked for different numbers of answers") {
  static const Example example = [] {
    Example animals;
    animals.gold = {{"cat", {}, 1}, {"dog", {}, 1}, {"owl", {}, 1}};
    return animals;
  }();
  const std::string one = set_text({{"ant", "0.5"}}),
                    three = set_text({{"cat", "0.2"}, {"ant", "0.5"}, {"dog", "0.3"}});
  const CompletionView views[] = {{&example, one, {}, 1}, {&example, three, {}, 3}};
  const SetMetrics m = evaluate_sets(
      build_answer_batch(views, *make_answer_format("compact"), *make_matcher("alias"), nullptr));
  CHECK(m.format_rate == 1);
  CHECK(m.coverage == Approx((0 + 2.0 / 3) / 2));
  CHECK(m.unique == 1);
  CHECK(m.recall == Approx((0 + 2.0 / 3) / 2));
  // At 1 both rows count, past it only the second: cat; cat, ant; cat, ant, dog. By confidence: ant, dog, cat.
  CHECK(m.coverage_at == std::vector<double>{0.5, 0.5, 2.0 / 3});
  CHECK(m.coverage_by_rank == std::vector<double>{0, 0.5, 2.0 / 3});
  CHECK(m.pass_at == std::vector<double>{0, 1, 1});
  CHECK(m.accuracy_by_rank == std::vector<double>{0, 1, 1});
}

TEST_CASE("several completions of a prompt: pass@k and what sampling on brings, against all orders") {
  // Two prompts with three completions of two answers each; a tokens_at that grows by 10 an answer.
  const std::vector<std::vector<std::string>> answers = {{"cat", "ant"}, {"cat", "dog"}, {"bee", "fly"},
                                                         {"owl", "owl"}, {"dog", "ant"}, {"cat", "owl"}};
  std::vector<std::string> texts;
  for (const auto& pair : answers) texts.push_back(set_text({{pair[0], "0.5"}, {pair[1], "0.5"}}));
  AnswerBatch batch = animal_sets(texts, 2);
  batch.length = at::full({6}, 25, at::kLong);
  const Tensor tokens_at = at::tensor({10, 20}).to(at::kLong).expand({6, 2});
  const int64_t prompt_of_row[] = {7, 7, 7, 9, 9, 9};
  const SetMetrics m = evaluate_sets(batch, prompt_of_row, tokens_at);

  const std::set<std::string> gold = {"cat", "dog", "owl"};
  const auto distinct = [](const std::vector<std::string>& list) {
    return static_cast<double>(std::set<std::string>(list.begin(), list.end()).size());
  };
  const auto hits = [&](const std::vector<std::string>& list) {
    std::vector<std::string> right;
    std::copy_if(list.begin(), list.end(), std::back_inserter(right), [&](const auto& a) { return gold.contains(a); });
    return distinct(right);
  };
  REQUIRE(m.curve.size() == 4);
  REQUIRE(m.sample_pass_at.size() == 3);
  // Every order of the three completions; the first `draws` of them.
  for (int64_t draws = 1; draws <= 3; ++draws) {
    double found = 0, unique = 0, pass = 0;
    for (size_t prompt = 0; prompt < 2; ++prompt) {
      std::vector<size_t> order = {0, 1, 2};
      do {
        std::vector<std::string> drawn;
        for (int64_t i = 0; i < draws; ++i)
          for (const std::string& text : answers[prompt * 3 + order[static_cast<size_t>(i)]]) drawn.push_back(text);
        found += hits(drawn) / 12, unique += distinct(drawn) / 12, pass += (hits(drawn) > 0 ? 1 : 0) / 12.0;
      } while (std::next_permutation(order.begin(), order.end()));
    }
    INFO(draws << " completions");
    const CoveragePoint& point = m.curve[static_cast<size_t>(draws)];
    CHECK(point.answers == 2 * draws);
    CHECK(point.tokens == Approx(25 * draws));
    CHECK(point.distinct_correct == Approx(found));
    CHECK(point.recall == Approx(found / 3));
    CHECK(point.unique == Approx(unique));
    CHECK(m.sample_pass_at[static_cast<size_t>(draws - 1)] == Approx(pass));
  }
  // The first answers alone: cat cat bee, owl dog cat.
  CHECK(m.curve[0].answers == 1);
  CHECK(m.curve[0].tokens == 10);
  CHECK(m.curve[0].distinct_correct == Approx(5.0 / 6));
  CHECK(to_metric_map(m).at("sample_pass@3") == Approx(m.sample_pass_at[2]));
}

TEST_CASE("an answer without a usable confidence ranks after those that are stated") {
  for (const char* unusable : {"x", "1.5", "-1"}) {
    INFO(unusable);
    const std::string texts[] = {set_text({{"cat", unusable}, {"ant", "0"}})};
    const SetMetrics m = evaluate_sets(animal_sets(texts, 2));
    CHECK(m.coverage_by_rank[0] == 0);
    CHECK(m.pass_at[0] == 0);
    CHECK(m.accuracy_by_rank[0] == 0);
    CHECK(m.accuracy_by_rank[1] == 1);
  }
}

TEST_CASE("what is not known of the tokens is not known of the curve") {
  const std::string texts[] = {set_text({{"cat", "1"}, {"dog", "1"}}), set_text({{"cat", "1"}, {"ant", "0"}})};
  const int64_t prompt_of_row[] = {0, 0};
  AnswerBatch batch = animal_sets(texts, 2);
  batch.length = at::tensor({30, 50}).to(at::kLong);
  SetMetrics m = evaluate_sets(batch, prompt_of_row);
  REQUIRE(m.curve.size() == 3);
  CHECK(std::isnan(m.curve[0].tokens));  // whole rows are counted, not what their first answers took
  CHECK(m.curve[1].tokens == 40);
  CHECK(m.curve[2].tokens == 80);
  batch.length[1] = 0;
  m = evaluate_sets(batch, prompt_of_row);
  for (const CoveragePoint& point : m.curve) CHECK(std::isnan(point.tokens));

  // A completion that begins with answer 2 had spent nothing on answer 1.
  const std::string late[] = {"<answer2>cat</answer2>", set_text({{"cat", "1"}, {"ant", "0"}})};
  batch = animal_sets(late, 2);
  batch.length = at::tensor({30, 50}).to(at::kLong);
  m = evaluate_sets(batch, {}, at::tensor({0, 22, 10, 20}).to(at::kLong).view({2, 2}));
  CHECK(m.curve[0].tokens == 5);
}

TEST_CASE("rows that were asked for different K count at k where they were asked for as many") {
  const std::string texts[] = {set_text({{"cat", "1"}}), set_text({{"cat", "1"}, {"dog", "1"}})};
  const int64_t prompt_of_row[] = {0, 0};
  AnswerBatch batch = animal_sets(texts, std::vector<int64_t>{1, 2});
  batch.length = at::tensor({10, 20}).to(at::kLong);
  const SetMetrics m = evaluate_sets(batch, prompt_of_row, at::tensor({10, 0, 12, 20}).to(at::kLong).view({2, 2}));
  CHECK(m.coverage == 1);
  CHECK(m.coverage_at[1] == 1);
  REQUIRE(m.curve.size() == 2);  // "4 answers drawn" would be false of two completions
  CHECK(m.curve[0].distinct_correct == 1);
  CHECK(m.curve[0].tokens == 11);
  CHECK(m.curve[1].distinct_correct == 2);
  CHECK(m.curve[1].tokens == 20);
}

TEST_CASE("answers that a matcher tells apart may share a normal form: sampling on counts the form once a completion") {
  const std::vector<std::string> texts(2, set_text({{"x + y", "0.5"}, {"x - y", "0.5"}}));
  AnswerBatch batch = animal_sets(texts, 2);
  batch.key = at::tensor({0, 1, 0, 1}, at::kLong).view({2, 2});  // as by the matcher code
  const int64_t prompt_of_row[] = {1, 1};
  const SetMetrics m = evaluate_sets(batch, prompt_of_row);
  CHECK(m.unique == 1);
  REQUIRE(m.curve.size() == 3);
  CHECK(m.curve[1].unique == 2);
  CHECK(m.curve[2].unique == 1);
}

TEST_CASE("intervals of a set's metrics resample prompts with all their rows") {
  // Prompt 0: two rows with one hit each; prompt 1: two rows without. A draw of two prompts has coverage 0, .5 or 1,
  // each end with chance 1/4. Resampling rows would give quarters too and be much narrower.
  const std::string texts[] = {set_text({{"cat", "1"}}), set_text({{"dog", "1"}}), set_text({{"ant", "0"}}),
                               set_text({{"bee", "0"}})};
  const AnswerBatch batch = animal_sets(texts, 1);
  const int64_t prompt_of_row[] = {0, 0, 1, 1};
  const auto intervals = set_metric_intervals(batch, prompt_of_row, {.level = 0.6, .replicates = 400, .seed = 5});
  CHECK(intervals.at("coverage").low == 0);
  CHECK(intervals.at("coverage").high == 1);
  const auto narrow = set_metric_intervals(batch, prompt_of_row, {.level = 0.4, .replicates = 400, .seed = 5});
  CHECK(narrow.at("coverage").low == 0.5);
  CHECK(narrow.at("coverage").high == 0.5);
  CHECK(intervals.at("brier").high == 0);
  CHECK(std::isnan(intervals.at("tokens").low));
}

TEST_CASE("the intervals have the names of the metrics, also where prompts have unequal numbers of rows") {
  const std::string texts[] = {set_text({{"cat", "1"}}), set_text({{"dog", "1"}}), set_text({{"ant", "0"}})};
  const AnswerBatch batch = animal_sets(texts, 1);
  const int64_t prompt_of_row[] = {0, 0, 1};
  const auto names = [](const auto& map) {
    std::vector<std::string> list;
    for (const auto& [name, value] : map) list.push_back(name);
    return list;
  };
  const auto measured = names(to_metric_map(evaluate_sets(batch, prompt_of_row)));
  CHECK(names(set_metric_intervals(batch, prompt_of_row, {.replicates = 50})) == measured);
  CHECK(set_metric_names(1) == measured);
  const std::vector<std::string> several = set_metric_names(2, 3);
  CHECK(std::count(several.begin(), several.end(), "sample_pass@3") == 1);
  CHECK(std::count(several.begin(), several.end(), "sample_pass@4") == 0);
}

TEST_CASE("which way of a metric is better") {
  CHECK(better_direction("coverage@2") == 1);
  CHECK(better_direction("brier") == -1);
  CHECK(better_direction("brier_resolution") == 1);
  CHECK(better_direction("ece_debiased") == -1);
  CHECK(better_direction("tokens_per_distinct_correct") == -1);
  CHECK(better_direction("mean_confidence") == 0);
  CHECK(better_direction("forced_answers") == 0);
  CHECK(better_direction("unanswered") == -1);
  CHECK(better_direction("tokens_per_answer") == -1);
  CHECK(better_direction("completion_characters") == -1);
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
