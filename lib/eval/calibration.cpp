// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <unordered_map>

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

/// Sums over the points of one bin.
struct BinSums {
  double count = 0, confidence = 0, correct = 0;
  void add(double q, double z) { ++count, confidence += q, correct += z; }
  double gap() const { return (confidence - correct) / count; }  // mean confidence - mean correct
};

/// `bins` runs of the sorted points whose sizes differ by at most one; runs never part equal confidences.
std::vector<BinSums> equal_mass_bins(const Forecasts& points, int64_t bins) {
  check(points, bins);
  const size_t n = points.confidence.size();
  const auto order = by_confidence(points);
  std::vector<BinSums> runs;
  size_t begin = 0;
  for (int64_t bin = 0; bin < bins && begin < n; ++bin) {
    size_t end = std::max(begin, n * static_cast<size_t>(bin + 1) / static_cast<size_t>(bins));
    while (end > begin && end < n && points.confidence[order[end]] == points.confidence[order[end - 1]]) ++end;
    if (end == begin) continue;
    runs.emplace_back();
    for (size_t i = begin; i < end; ++i) runs.back().add(points.confidence[order[i]], points.correct[order[i]]);
    begin = end;
  }
  return runs;
}

/// Which bin each point belongs to, numbered from 0; `bins` 0 = one for each confidence that occurs.
std::vector<size_t> bins_of_points(const Forecasts& points, int64_t bins) {
  std::vector<size_t> bin_of_point;
  std::unordered_map<double, size_t> number_of_value;
  for (const double q : points.confidence)
    bin_of_point.push_back(bins > 0 ? static_cast<size_t>(bin_of(q, bins))
                                    : number_of_value.emplace(q, number_of_value.size()).first->second);
  return bin_of_point;
}

double mean(const std::vector<double>& values) {
  return values.empty() ? kUndefined
                        : std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
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
  const auto runs = equal_mass_bins(points, bins);
  double error = 0;
  for (const BinSums& run : runs) error += run.count * std::abs(run.gap());
  return runs.empty() ? kUndefined : error / static_cast<double>(points.confidence.size());
}

double debiased_squared_calibration_error(const Forecasts& points, int64_t bins) {
  const auto runs = equal_mass_bins(points, bins);
  double error = 0;
  for (const BinSums& run : runs) {
    if (run.count < 2) continue;
    const double y = run.correct / run.count;
    error += run.count * (run.gap() * run.gap() - y * (1 - y) / (run.count - 1));
  }
  return runs.empty() ? kUndefined : error / static_cast<double>(points.confidence.size());
}

double debiased_calibration_error(const Forecasts& points, int64_t bins) {
  const double squared = debiased_squared_calibration_error(points, bins);
  return std::isnan(squared) ? squared : std::sqrt(std::max(0.0, squared));
}

BrierDecomposition decompose_brier(const Forecasts& points, int64_t bins) {
  check(points);
  PLURAL_CHECK(bins >= 0, fmt::format("bins must be 0 (one for each confidence) or more, got {}", bins));
  if (points.confidence.empty()) return {kUndefined, kUndefined, kUndefined, kUndefined};
  const auto bin_of_point = bins_of_points(points, bins);
  std::vector<BinSums> sums(*std::max_element(bin_of_point.begin(), bin_of_point.end()) + 1);
  for (size_t i = 0; i < bin_of_point.size(); ++i) sums[bin_of_point[i]].add(points.confidence[i], points.correct[i]);
  const auto n = static_cast<double>(points.confidence.size());
  const double accuracy = mean(points.correct);
  BrierDecomposition parts;
  parts.uncertainty = accuracy * (1 - accuracy);
  for (const BinSums& bin : sums) {
    if (bin.count == 0) continue;
    const double y = bin.correct / bin.count;
    parts.reliability += bin.count / n * bin.gap() * bin.gap();
    parts.resolution += bin.count / n * (y - accuracy) * (y - accuracy);
  }
  for (size_t i = 0; i < bin_of_point.size(); ++i) {
    const BinSums& bin = sums[bin_of_point[i]];
    const double q = points.confidence[i] - bin.confidence / bin.count, z = points.correct[i] - bin.correct / bin.count;
    parts.within_bins += (q * q - 2 * q * z) / n;
  }
  return parts;
}

std::vector<GroupCalibration> calibration_by_group(const Forecasts& points, std::span<const std::string> groups,
                                                   int64_t bins) {
  check(points, bins);
  PLURAL_CHECK(groups.size() == points.confidence.size(),
               fmt::format("{} labels for {} points", groups.size(), points.confidence.size()));
  std::unordered_map<std::string, size_t> place;
  std::vector<GroupCalibration> table;
  std::vector<Forecasts> members;
  for (size_t i = 0; i < groups.size(); ++i) {
    const auto [it, is_new] = place.emplace(groups[i], members.size());
    if (is_new) {
      table.push_back({.group = groups[i]});
      members.emplace_back();
    }
    members[it->second].confidence.push_back(points.confidence[i]);
    members[it->second].correct.push_back(points.correct[i]);
  }
  for (size_t g = 0; g < table.size(); ++g) {
    table[g].count = static_cast<int64_t>(members[g].confidence.size());
    table[g].accuracy = mean(members[g].correct);
    table[g].mean_confidence = mean(members[g].confidence);
    table[g].brier = brier_score(members[g]);
    table[g].ece = expected_calibration_error(members[g], bins);
  }
  return table;
}

double classwise_calibration_error(const Forecasts& points, std::span<const std::string> groups, int64_t at_least,
                                   int64_t bins) {
  std::vector<double> errors;
  for (const GroupCalibration& group : calibration_by_group(points, groups, bins))
    if (group.count >= at_least) errors.push_back(group.ece);
  return mean(errors);
}

double total_variation(std::span<const double> p, std::span<const double> q) {
  PLURAL_CHECK(p.size() == q.size(), fmt::format("distributions over {} and {} outcomes", p.size(), q.size()));
  double sum = 0;
  for (size_t i = 0; i < p.size(); ++i) sum += std::abs(p[i] - q[i]);
  return sum / 2;
}

double kl_divergence(std::span<const double> p, std::span<const double> q, double floor) {
  PLURAL_CHECK(p.size() == q.size(), fmt::format("distributions over {} and {} outcomes", p.size(), q.size()));
  double raised = 1;
  if (floor > 0) {
    raised = 0;
    for (const double value : q) raised += std::max(value, floor);
  }
  double sum = 0;
  for (size_t i = 0; i < p.size(); ++i)
    if (p[i] > 0) sum += p[i] * std::log(p[i] * raised / std::max(q[i], floor));
  return sum;
}

KnownDistance distance_from_known(std::span<const double> confidence, std::span<const double> probability) {
  PLURAL_CHECK(confidence.size() == probability.size(),
               fmt::format("{} confidences for {} known probabilities", confidence.size(), probability.size()));
  if (confidence.empty()) return {kUndefined, kUndefined};
  std::vector<double> p(probability.begin(), probability.end()), q(confidence.begin(), confidence.end());
  const double stated = std::accumulate(q.begin(), q.end(), 0.0);
  if (stated > 1)
    for (double& value : q) value /= stated;
  p.push_back(std::max(0.0, 1 - std::accumulate(p.begin(), p.end(), 0.0)));
  q.push_back(std::max(0.0, 1 - stated));
  constexpr double kFloor = 1e-3;  // the smallest probability that people write
  return {total_variation(p, q), kl_divergence(p, q, kFloor)};
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

namespace {

/// Percentiles of the values that are numbers; NaN ends when none is.
Interval percentile_interval(std::vector<double> values, double level) {
  std::erase_if(values, [](double value) { return std::isnan(value); });
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

}  // namespace

std::map<std::string, Interval> bootstrap_intervals(
    int64_t rows, const std::function<std::map<std::string, double>(std::span<const int64_t>)>& statistics,
    const BootstrapOptions& options) {
  PLURAL_CHECK(rows >= 1 && options.replicates >= 1 && options.level > 0 && options.level < 1,
               "bootstrap needs rows, replicates and 0 < level < 1");
  std::vector<int64_t> drawn(static_cast<size_t>(rows));
  std::map<std::string, std::vector<double>> values;
  for (int64_t r = 0; r < options.replicates; ++r) {
    RandomStream stream(options.seed, RandomPurpose::kBootstrap, static_cast<uint64_t>(r));
    for (int64_t& row : drawn) row = static_cast<int64_t>(stream.below(static_cast<uint64_t>(rows)));
    for (const auto& [name, value] : statistics(drawn)) values[name].push_back(value);
  }
  std::map<std::string, Interval> intervals;
  for (auto& [name, list] : values) intervals[name] = percentile_interval(std::move(list), options.level);
  return intervals;
}

Interval bootstrap_interval(int64_t rows, const std::function<double(std::span<const int64_t>)>& statistic,
                            double level, int64_t replicates, uint64_t seed) {
  const auto named = [&](std::span<const int64_t> drawn) {
    return std::map<std::string, double>{{"", statistic(drawn)}};
  };
  return bootstrap_intervals(rows, named, {level, replicates, seed}).at("");
}

}  // namespace plural
