// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "lib/core/format.h"
#include "plural/error.h"
#include "plural/evaluation.h"
#include "plural/rng.h"

namespace plural {
namespace {

constexpr double kUndefined = std::numeric_limits<double>::quiet_NaN();

void check(const Forecasts& points, int64_t bins = 1) {
  PLURAL_CHECK(points.confidence.size() == points.correct.size(),
               fmt::format("{} confidences for {} outcomes", points.confidence.size(), points.correct.size()));
  PLURAL_CHECK(bins >= 1, fmt::format("at least 1 bin is needed, got {}", bins));
}

/// Bin i holds c with i/n <= c < (i+1)/n. The edges are the rounded quotients, so floor(c * n), which rounds once
/// more, serves only as a first guess.
int64_t bin_of(double c, int64_t n) {
  if (!(c > 0)) return 0;
  if (c >= 1) return n - 1;
  const auto edge = [n](int64_t i) { return static_cast<double>(i) / static_cast<double>(n); };
  int64_t bin = std::clamp<int64_t>(static_cast<int64_t>(c * static_cast<double>(n)), 0, n - 1);
  while (bin + 1 < n && c >= edge(bin + 1)) ++bin;
  while (bin > 0 && c < edge(bin)) --bin;
  return bin;
}

std::vector<size_t> by_confidence(const Forecasts& points) {
  std::vector<size_t> order(points.confidence.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return points.confidence[a] < points.confidence[b]; });
  return order;
}

}  // namespace

std::vector<ReliabilityBin> reliability_table(const Forecasts& points, int64_t bins) {
  check(points, bins);
  std::vector<ReliabilityBin> table(static_cast<size_t>(bins));
  for (int64_t i = 0; i < bins; ++i) {
    table[static_cast<size_t>(i)].low = static_cast<double>(i) / static_cast<double>(bins);
    table[static_cast<size_t>(i)].high = static_cast<double>(i + 1) / static_cast<double>(bins);
  }
  for (size_t i = 0; i < points.confidence.size(); ++i) {
    ReliabilityBin& bin = table[static_cast<size_t>(bin_of(points.confidence[i], bins))];
    ++bin.count;
    bin.mean_confidence += points.confidence[i];
    bin.mean_correct += points.correct[i];
  }
  for (ReliabilityBin& bin : table) {
    bin.correct_interval = wilson_interval(bin.mean_correct, bin.count);
    const double count = bin.count > 0 ? static_cast<double>(bin.count) : kUndefined;
    bin.mean_confidence /= count;
    bin.mean_correct /= count;
  }
  return table;
}

double expected_calibration_error(const Forecasts& points, int64_t bins) {
  const auto table = reliability_table(points, bins);
  if (points.confidence.empty()) return kUndefined;
  double error = 0;
  for (const ReliabilityBin& bin : table)
    if (bin.count > 0)
      error += static_cast<double>(bin.count) / static_cast<double>(points.confidence.size()) *
               std::abs(bin.mean_confidence - bin.mean_correct);
  return error;
}

double equal_mass_calibration_error(const Forecasts& points, int64_t bins) {
  check(points, bins);
  const size_t n = points.confidence.size();
  if (n == 0) return kUndefined;
  const auto order = by_confidence(points);
  double error = 0;
  size_t begin = 0;
  for (int64_t bin = 0; bin < bins && begin < n; ++bin) {
    size_t end = std::max(begin, n * static_cast<size_t>(bin + 1) / static_cast<size_t>(bins));
    while (end > begin && end < n && points.confidence[order[end]] == points.confidence[order[end - 1]]) ++end;
    double gap = 0;
    for (size_t i = begin; i < end; ++i) gap += points.confidence[order[i]] - points.correct[order[i]];
    error += std::abs(gap) / static_cast<double>(n);
    begin = end;
  }
  return error;
}

double auroc(const Forecasts& points) {
  check(points);
  const auto order = by_confidence(points);
  double positives = 0;
  for (double y : points.correct) positives += y;
  const double negatives = static_cast<double>(order.size()) - positives;
  if (positives == 0 || negatives == 0) return kUndefined;
  // Mann-Whitney: for each run of equal confidences, its correct ones beat all wrong ones below and tie with its own.
  double wins = 0, wrong_below = 0;
  for (size_t begin = 0; begin < order.size();) {
    size_t end = begin;
    double right = 0, wrong = 0;
    for (; end < order.size() && points.confidence[order[end]] == points.confidence[order[begin]]; ++end)
      (points.correct[order[end]] > 0.5 ? right : wrong) += 1;
    wins += right * (wrong_below + 0.5 * wrong);
    wrong_below += wrong;
    begin = end;
  }
  return wins / (positives * negatives);
}

double brier_score(const Forecasts& points) {
  check(points);
  if (points.confidence.empty()) return kUndefined;
  double sum = 0;
  for (size_t i = 0; i < points.confidence.size(); ++i) {
    const double gap = points.confidence[i] - points.correct[i];
    sum += gap * gap;
  }
  return sum / static_cast<double>(points.confidence.size());
}

Interval wilson_interval(double successes, int64_t trials, double z) {
  PLURAL_CHECK(trials >= 0 && successes >= 0 && successes <= static_cast<double>(trials),
               "a share needs successes <= trials");
  if (trials == 0) return {0, 1};
  const auto n = static_cast<double>(trials);
  const double share = successes / n, z2 = z * z;
  const double centre = (share + z2 / (2 * n)) / (1 + z2 / n);
  const double half = z / (1 + z2 / n) * std::sqrt(share * (1 - share) / n + z2 / (4 * n * n));
  return {std::max(0.0, centre - half), std::min(1.0, centre + half)};
}

Interval bootstrap_interval(int64_t rows, const std::function<double(std::span<const int64_t>)>& statistic,
                            double level, int64_t replicates, uint64_t seed) {
  PLURAL_CHECK(rows >= 1 && replicates >= 1 && level > 0 && level < 1,
               "bootstrap needs rows, replicates and 0 < level < 1");
  std::vector<int64_t> drawn(static_cast<size_t>(rows));
  std::vector<double> values;
  for (int64_t r = 0; r < replicates; ++r) {
    RandomStream stream(seed, RandomPurpose::kBootstrap, static_cast<uint64_t>(r));
    for (int64_t& row : drawn) row = static_cast<int64_t>(stream.below(static_cast<uint64_t>(rows)));
    if (const double value = statistic(drawn); !std::isnan(value)) values.push_back(value);
  }
  if (values.empty()) return {kUndefined, kUndefined};
  std::sort(values.begin(), values.end());
  const auto quantile = [&](double q) {
    const double at = q * static_cast<double>(values.size() - 1);
    const auto below = static_cast<size_t>(at);
    const size_t above = std::min(below + 1, values.size() - 1);
    return values[below] + (at - static_cast<double>(below)) * (values[above] - values[below]);
  };
  return {quantile((1 - level) / 2), quantile((1 + level) / 2)};
}

}  // namespace plural
