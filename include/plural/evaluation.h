// SPDX-License-Identifier: Apache-2.0
// Measures of answer sets: calibration, pass@k, coverage, diversity. Pure functions in double; a measure that is
// undefined for its input (an empty table, one class only) is NaN. docs/guides/metrics.md has the formulas.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "plural/answers.h"
#include "plural/tensor.h"

namespace plural {

/// Forecasts and outcomes, index by index: confidence in [0, 1] (others count in the nearest bin), correct 0 or 1.
/// Unequal lengths throw CheckError.
struct Forecasts {
  std::vector<double> confidence;
  std::vector<double> correct;
};

/// Expected calibration error: sum over non-empty bins of (share of points) * |mean confidence - mean correct|.
/// Equal-width bins [i/n, (i+1)/n), 1.0 in the last.
double expected_calibration_error(const Forecasts& points, int64_t bins = 10);
/// The same over bins of equal mass: the points sorted by confidence, cut into `bins` runs whose sizes differ by at
/// most one; runs never part equal confidences (ties stay in the earlier run).
double equal_mass_calibration_error(const Forecasts& points, int64_t bins = 10);
/// Squared l2 calibration error over bins of equal mass without the upward bias of finite bins (Kumar, Liang and Ma
/// 2019, arXiv 1909.10155, section 5): sum over bins of (share of points) * ((mean confidence - y)^2 - y (1 - y) /
/// (n - 1)), y = mean correct of the bin's n points. Bins of one point count 0. May be negative.
double debiased_squared_calibration_error(const Forecasts& points, int64_t bins = 10);
/// Its root, 0 where the estimate is negative: comparable to ECE, but an l2 norm over bins.
double debiased_calibration_error(const Forecasts& points, int64_t bins = 10);

/// brier_score = reliability - resolution + uncertainty + within_bins (Murphy 1973; Stephenson, Coelho and Jolliffe
/// 2008 for the last term, which is 0 when every bin holds one confidence only).
struct BrierDecomposition {
  double reliability = 0;  ///< sum over bins of (share) * (mean confidence - mean correct)^2; 0 = calibrated
  double resolution = 0;   ///< sum over bins of (share) * (mean correct - accuracy)^2; more is better
  double uncertainty = 0;  ///< accuracy * (1 - accuracy): of the data, not of the forecaster
  double within_bins = 0;  ///< what differences inside bins add
};
/// `bins` equal-width bins; 0 = one bin for each confidence that occurs.
BrierDecomposition decompose_brier(const Forecasts& points, int64_t bins = 10);

/// Area under the ROC curve, ties count one half. NaN unless both classes occur. O(n log n).
double auroc(const Forecasts& points);
/// Mean of (confidence - correct)^2.
double brier_score(const Forecasts& points);

/// Calibration of the points with one label (a slot of the set, an answer, a data source).
struct GroupCalibration {
  std::string group;
  int64_t count = 0;
  double accuracy = 0;
  double mean_confidence = 0;
  double brier = 0;
  double ece = 0;  ///< equal-width bins
};
/// One entry for each label that occurs, in the order of first occurrence. `groups` has an entry for each point.
std::vector<GroupCalibration> calibration_by_group(const Forecasts& points, std::span<const std::string> groups,
                                                   int64_t bins = 10);
/// Mean of the ECEs of the labels with at least `at_least` points, each label with equal weight (the class-wise ECE of
/// Kull et al. 2019, arXiv 1910.12656, with the classes that were stated). NaN when there is none.
double classwise_calibration_error(const Forecasts& points, std::span<const std::string> groups, int64_t at_least = 10,
                                   int64_t bins = 10);

/// Half the l1 distance of two distributions over the same outcomes, in [0, 1].
double total_variation(std::span<const double> p, std::span<const double> q);
/// sum p ln(p / q) in nats, 0 ln 0 = 0. `floor` > 0 raises every q to at least `floor` and divides by the new sum, so
/// that a stated 0 does not make it infinite.
double kl_divergence(std::span<const double> p, std::span<const double> q, double floor = 0);

/// How far stated confidences are from a known distribution.
struct KnownDistance {
  double total_variation = 0;
  double kl = 0;  ///< KL(known, stated) with floor 0.001, nats
};
/// Outcomes: the stated answers, and "something else" with what is left to 1 of each side. Confidences that sum to more
/// than 1 are divided by their sum. `probability[i]` is the known probability of answer i; the answers are distinct.
/// Both NaN for no answers.
KnownDistance distance_from_known(std::span<const double> confidence, std::span<const double> probability);

/// 1 - C(n-c, k) / C(n, k): the chance that k of n samples, c of them correct, hold a correct one. NaN for k > n.
double pass_at_k(int64_t n, int64_t correct, int64_t k);
/// Mean over prompts with n samples each.
double mean_pass_at_k(int64_t n, std::span<const int64_t> correct, int64_t k);

/// Sets of forecasts, one a row: answers with their confidences. Ranked by falling confidence, ties in order; `k` past
/// the end of a row means the whole row.
double ranked_pass_at_k(std::span<const Forecasts> rows, int64_t k);
double ranked_num_correct_at_k(std::span<const Forecasts> rows, int64_t k);
/// Mean over rows of the sum (or the mean) over answers of (confidence - correct)^2. Rows without answers are left out.
double set_brier_sum(std::span<const Forecasts> rows);
double set_brier_mean(std::span<const Forecasts> rows);
/// All answers of all rows as one table.
Forecasts pool(std::span<const Forecasts> rows);

/// Different n-grams / all n-grams of the texts (Li et al. 2016, arXiv 1510.03055). A text is split at spaces. NaN
/// when no text has n words.
double distinct_n(std::span<const std::string> texts, int64_t n);
/// [N, N] float64: |A and B| / |A or B|, A and B the sets of words of two texts; two without words: 1.
Tensor jaccard_similarity(std::span<const std::string> texts);
/// Mean of it over pairs of different texts. NaN for fewer than two.
double mean_pairwise_jaccard(std::span<const std::string> texts);
/// Mean over texts of BLEU (Papineni et al. 2002: n-grams up to `max_n` with equal weights, clipped counts, brevity
/// penalty against the closest length, no smoothing) with all other texts as references (Zhu et al. 2018, arXiv
/// 1802.01886). 1 = repetitions. A text shorter than `max_n` words uses n-grams up to its length. NaN for fewer than
/// two.
double self_bleu(std::span<const std::string> texts, int64_t max_n = 4);
/// exp of the entropy of the eigenvalues of `similarity` / N (Friedman and Dieng 2023, arXiv 2210.02410, equation 2):
/// an effective number of different items, 1 to N. similarity: [N, N], symmetric, positive semi-definite, ones on the
/// diagonal. NaN for N = 0. O(N^3).
double vendi_score(const Tensor& similarity);

struct Interval {
  double low = 0;
  double high = 0;
};
/// Wilson score interval of a share, z = 1.96 for 95 %. {0, 1} for no trials.
Interval wilson_interval(double successes, int64_t trials, double z = 1.959963984540054);
/// Percentile bootstrap over rows: `statistic` is called with resampled row indices (NaN results are left out).
/// Deterministic in the seed.
Interval bootstrap_interval(int64_t rows, const std::function<double(std::span<const int64_t>)>& statistic,
                            double level = 0.95, int64_t replicates = 1000, uint64_t seed = 1);

struct BootstrapOptions {
  double level = 0.95;
  int64_t replicates = 1000;
  uint64_t seed = 1;
};
/// The same for many statistics at once, by name. Names that no replicate could compute have NaN ends.
std::map<std::string, Interval> bootstrap_intervals(
    int64_t rows, const std::function<std::map<std::string, double>(std::span<const int64_t>)>& statistics,
    const BootstrapOptions& options = {});

/// One bar of a reliability diagram.
struct ReliabilityBin {
  double low = 0, high = 0;  ///< [low, high); the last bin holds 1.0
  int64_t count = 0;
  double mean_confidence = 0;  ///< NaN when empty
  double mean_correct = 0;     ///< NaN when empty
  Interval correct_interval;   ///< Wilson, 95 %
};
std::vector<ReliabilityBin> reliability_table(const Forecasts& points, int64_t bins = 10);

/// A point of the curve of what sampling on brings: means over prompts.
struct CoveragePoint {
  int64_t answers = 0;          ///< answers drawn
  double tokens = 0;            ///< spent on them; NaN when not known
  double distinct_correct = 0;  ///< different gold answers among them
  double unique = 0;            ///< different answers among them
  double recall = 0;            ///< distinct_correct / gold answers of the prompt
};

/// What `plural eval` reports of a batch of sets. All means are over rows (= completions, or K single ones read as one
/// set) unless said otherwise. `hits` of a row = different gold answers that its answers match.
struct SetMetrics {
  int64_t rows = 0;
  int64_t answers = 0;  ///< answers with a confidence in [0, 1]: the points of brier, ece and auroc
  double format_rate = 0;
  double unanswered = 0;  ///< rows without any answer block: set_brier_sum and set_brier_mean leave them out
  double coverage = 0;    ///< hits / K
  double any_correct = 0;
  double unique = 0;                ///< different answers / K
  double distinct_correct = 0;      ///< hits
  double precision = 0;             ///< hits / stated answers, over rows with an answer: a repetition counts as wrong
  double recall = 0;                ///< hits / gold answers
  double f1 = 0;                    ///< 2 hits / (stated answers + gold answers)
  double gold_mass = 0;             ///< sum of the hit gold answers' weights, the weights of an example summing to 1
  double accuracy = 0;              ///< share of correct answers, over all answers
  double confidence_adherence = 0;  ///< share of answers with a confidence in [0, 1], over all answers
  double mean_confidence = 0;       ///< over `answers`, as the next ones
  double brier = 0;
  double ece = 0;             ///< 10 equal-width bins
  double ece_equal_mass = 0;  ///< 10 bins of equal mass
  double ece_debiased = 0;    ///< debiased_calibration_error, 10 bins
  double ece_classwise = 0;   ///< over answers (normal forms) that are stated at least 10 times
  double auroc = 0;
  BrierDecomposition brier_parts;          ///< 10 equal-width bins
  double set_brier_sum = 0;                ///< over rows with answers; no usable confidence counts as 0
  double set_brier_mean = 0;               ///< the same, mean over the row's answers
  double total_variation = 0;              ///< distance_from_known of a row's different answers and the gold weights,
  double kl = 0;                           ///< over rows with a confidence in [0, 1]
  double distinct_1 = 0, distinct_2 = 0;   ///< distinct_n of a row's answers (normal forms), over rows where defined
  double jaccard = 0;                      ///< mean_pairwise_jaccard of the same
  double self_bleu = 0;                    ///< self_bleu up to 2-grams of the same
  double vendi = 0;                        ///< vendi_score of the same under the Jaccard similarity of their words
  double tokens = 0;                       ///< completion tokens a row; NaN (as the next three) when not known
  double tokens_per_answer = 0;            ///< all completion tokens / all answers
  double tokens_per_correct = 0;           ///< all completion tokens / all correct answers
  double tokens_per_distinct_correct = 0;  ///< all completion tokens / all hits
  std::vector<double> coverage_at;         ///< [K]: different gold answers hit by the first k answers as written, / k
  /// [K]: the same for the k most confident answers; those without a confidence in [0, 1] come last.
  std::vector<double> coverage_by_rank;
  std::vector<double> pass_at;           ///< [K]: rows with a correct one among the k most confident answers
  std::vector<double> accuracy_by_rank;  ///< [K]: share correct of the answers of rank 1, 2, ... by confidence
  std::vector<double> ece_by_slot;       ///< [K]: ECE of the answers numbered 1, 2, ...
  /// [n]: unbiased pass\@k over the n completions of each prompt, one that holds a correct answer being a success; n =
  /// the fewest completions of a prompt.
  std::vector<double> sample_pass_at;
  std::vector<ReliabilityBin> reliability;
  /// After 1 ... K answers of one completion, then after 2 ... n completions; the latter only where all rows were asked
  /// for the same K.
  std::vector<CoveragePoint> curve;
};

/// `answers` may lie on any device. `prompt_of_row`: which rows are completions of one prompt (equal numbers); empty =
/// every row has a prompt of its own. A row of length 0 makes the token counts unknown. `tokens_at`: [B, K] int64, the
/// tokens a row had spent when its k-th answer was written; undefined = not known. Rows may be asked for different K:
/// measures at k are over the rows that were asked for at least k answers.
SetMetrics evaluate_sets(const AnswerBatch& answers, std::span<const int64_t> prompt_of_row = {},
                         const Tensor& tokens_at = {});
/// Bootstrap intervals of to_metric_map(evaluate_sets(answers, prompt_of_row)); prompts are resampled, each with all
/// its rows.
std::map<std::string, Interval> set_metric_intervals(const AnswerBatch& answers,
                                                     std::span<const int64_t> prompt_of_row = {},
                                                     const BootstrapOptions& options = {});
/// Scalars by name ("coverage", "coverage@2", "pass@1", "accuracy@rank1", ...), undefined ones as NaN.
std::map<std::string, double> to_metric_map(const SetMetrics& metrics);
/// The names of to_metric_map for sets of K answers and so many completions of each prompt.
std::vector<std::string> set_metric_names(int64_t k, int64_t samples_per_prompt = 1);
/// +1 when more of the metric of this name is better, -1 when less is, 0 when neither (counts, "mean_confidence").
int better_direction(std::string_view metric);

}  // namespace plural
