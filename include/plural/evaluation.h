// SPDX-License-Identifier: Apache-2.0
// Measures of answer sets: calibration, pass@k, coverage. Pure functions in double; a measure that is undefined for
// its input (an empty table, one class only) is NaN.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "plural/answers.h"

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
/// Area under the ROC curve, ties count one half. NaN unless both classes occur. O(n log n).
double auroc(const Forecasts& points);
/// Mean of (confidence - correct)^2.
double brier_score(const Forecasts& points);

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

/// One bar of a reliability diagram.
struct ReliabilityBin {
  double low = 0, high = 0;  ///< [low, high); the last bin holds 1.0
  int64_t count = 0;
  double mean_confidence = 0;  ///< NaN when empty
  double mean_correct = 0;     ///< NaN when empty
  Interval correct_interval;   ///< Wilson, 95 %
};
std::vector<ReliabilityBin> reliability_table(const Forecasts& points, int64_t bins = 10);

/// What `plural eval` reports of a batch of sets. All means are over rows unless said otherwise.
struct SetMetrics {
  int64_t rows = 0;
  int64_t answers = 0;  ///< answers with a confidence in [0, 1]: the points of brier, ece and auroc
  double format_rate = 0;
  double coverage = 0;  ///< different gold answers hit / K
  double any_correct = 0;
  double unique = 0;                       ///< different answers / K
  double accuracy = 0;                     ///< share of correct answers, over all answers
  double mean_confidence = 0;              ///< over `answers`
  double brier = 0;                        ///< over `answers`
  double ece = 0;                          ///< over `answers`, 10 equal-width bins
  double ece_equal_mass = 0;               ///< over `answers`, 10 bins of equal mass
  double auroc = 0;                        ///< over `answers`
  double set_brier_sum = 0;                ///< over rows with such answers
  double tokens = 0;                       ///< completion tokens a row
  double tokens_per_distinct_correct = 0;  ///< all completion tokens / all different gold answers hit
  std::vector<double> coverage_at;         ///< [K]: different gold answers hit by the first k answers as written, / k
  std::vector<double> pass_at;             ///< [K]: rows with a correct one among the k most confident answers
  std::vector<double> accuracy_by_rank;    ///< [K]: share correct of the answers of rank 1, 2, ... by confidence
  std::vector<ReliabilityBin> reliability;
};

/// `answers` may lie on any device.
SetMetrics evaluate_sets(const AnswerBatch& answers);
/// The answers with a confidence in [0, 1], row by row.
std::vector<Forecasts> set_forecasts(const AnswerBatch& answers);
/// Scalars by name ("coverage", "coverage@2", "pass@1", "accuracy@rank1", ...), undefined ones as NaN.
std::map<std::string, double> to_metric_map(const SetMetrics& metrics);

}  // namespace plural
