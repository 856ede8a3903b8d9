// SPDX-License-Identifier: Apache-2.0
#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "lib/core/format.h"
#include "plural/error.h"
#include "plural/evaluation.h"

namespace plural {
namespace {

constexpr double kUndefined = std::numeric_limits<double>::quiet_NaN();

double ratio(double sum, int64_t count) { return count > 0 ? sum / static_cast<double>(count) : kUndefined; }

/// Indices of a row by falling confidence, ties in order.
std::vector<size_t> ranking(const std::vector<double>& confidence) {
  std::vector<size_t> order(confidence.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return confidence[a] > confidence[b]; });
  return order;
}

/// Mean over rows of `value(row, the correct answers among its k top-ranked ones)`.
template <class Value>
double mean_of_top(std::span<const Forecasts> rows, int64_t k, const Value& value) {
  PLURAL_CHECK(k >= 1, fmt::format("k must be at least 1, got {}", k));
  double sum = 0;
  for (const Forecasts& row : rows) {
    const auto order = ranking(row.confidence);
    double hits = 0;
    for (size_t i = 0; i < order.size() && static_cast<int64_t>(i) < k; ++i) hits += row.correct[order[i]];
    sum += value(hits);
  }
  return ratio(sum, static_cast<int64_t>(rows.size()));
}

double mean_set_brier(std::span<const Forecasts> rows, bool per_answer) {
  double sum = 0;
  int64_t counted = 0;
  for (const Forecasts& row : rows) {
    if (row.confidence.empty()) continue;
    sum += brier_score(row) * (per_answer ? 1.0 : static_cast<double>(row.confidence.size()));
    ++counted;
  }
  return ratio(sum, counted);
}

}  // namespace

double pass_at_k(int64_t n, int64_t correct, int64_t k) {
  PLURAL_CHECK(n >= 0 && correct >= 0 && correct <= n && k >= 1,
               fmt::format("n = {}, correct = {}, k = {}", n, correct, k));
  if (k > n) return kUndefined;
  if (n - correct < k) return 1.0;
  double none = 1.0;  // C(n-c, k) / C(n, k) as a product that cannot overflow
  for (int64_t i = n - correct + 1; i <= n; ++i) none *= 1.0 - static_cast<double>(k) / static_cast<double>(i);
  return 1.0 - none;
}

double mean_pass_at_k(int64_t n, std::span<const int64_t> correct, int64_t k) {
  double sum = 0;
  for (int64_t c : correct) sum += pass_at_k(n, c, k);
  return ratio(sum, static_cast<int64_t>(correct.size()));
}

double ranked_pass_at_k(std::span<const Forecasts> rows, int64_t k) {
  return mean_of_top(rows, k, [](double hits) { return hits > 0 ? 1.0 : 0.0; });
}

double ranked_num_correct_at_k(std::span<const Forecasts> rows, int64_t k) {
  return mean_of_top(rows, k, [](double hits) { return hits; });
}

double set_brier_sum(std::span<const Forecasts> rows) { return mean_set_brier(rows, false); }
double set_brier_mean(std::span<const Forecasts> rows) { return mean_set_brier(rows, true); }

Forecasts pool(std::span<const Forecasts> rows) {
  Forecasts all;
  for (const Forecasts& row : rows) {
    all.confidence.insert(all.confidence.end(), row.confidence.begin(), row.confidence.end());
    all.correct.insert(all.correct.end(), row.correct.begin(), row.correct.end());
  }
  return all;
}

std::vector<Forecasts> set_forecasts(const AnswerBatch& answers) {
  const Tensor usable = answers.present.logical_and(answers.confidence_ok).to(at::kCPU);
  const Tensor confidence = answers.confidence.to(at::kCPU, at::kDouble).contiguous();
  const Tensor correct = answers.match.ge(0).to(at::kCPU, at::kDouble).contiguous();
  const auto ok = usable.accessor<bool, 2>();
  const auto q = confidence.accessor<double, 2>();
  const auto z = correct.accessor<double, 2>();
  std::vector<Forecasts> rows(static_cast<size_t>(answers.rows));
  for (int64_t b = 0; b < answers.rows; ++b)
    for (int64_t i = 0; i < answers.slots; ++i)
      if (ok[b][i]) {
        rows[static_cast<size_t>(b)].confidence.push_back(q[b][i]);
        rows[static_cast<size_t>(b)].correct.push_back(z[b][i]);
      }
  return rows;
}

SetMetrics evaluate_sets(const AnswerBatch& device_answers) {
  const AnswerBatch answers = device_answers.to(at::kCPU);
  const int64_t slots = answers.slots;
  SetMetrics m;
  m.rows = answers.rows;
  const auto columns = static_cast<size_t>(slots);
  m.coverage_at.assign(columns, kUndefined);
  m.pass_at.assign(columns, kUndefined);
  m.accuracy_by_rank.assign(columns, kUndefined);

  const std::vector<Forecasts> rows = set_forecasts(answers);
  const Forecasts points = pool(rows);
  m.answers = static_cast<int64_t>(points.confidence.size());
  m.brier = brier_score(points);
  m.ece = expected_calibration_error(points);
  m.ece_equal_mass = equal_mass_calibration_error(points);
  m.auroc = auroc(points);
  m.set_brier_sum = set_brier_sum(rows);
  m.mean_confidence = ratio(std::accumulate(points.confidence.begin(), points.confidence.end(), 0.0), m.answers);
  m.reliability = reliability_table(points);
  if (m.rows == 0) {
    m.format_rate = m.coverage = m.any_correct = m.unique = m.accuracy = m.tokens = m.tokens_per_distinct_correct =
        kUndefined;
    return m;
  }

  const Tensor k = answers.k.to(at::kDouble);
  const Tensor hits = answers.first_hit().to(at::kDouble);
  const Tensor correct = answers.correct().to(at::kDouble);
  const Tensor present = answers.present.to(at::kDouble);
  m.format_rate = answers.format_ok.to(at::kDouble).mean().item<double>();
  m.coverage = (hits.sum(1) / k).mean().item<double>();
  m.any_correct = correct.amax(1).mean().item<double>();
  m.unique = (answers.first_of_key().to(at::kDouble).sum(1) / k).mean().item<double>();
  const double stated = present.sum().item<double>();
  m.accuracy = stated > 0 ? correct.sum().item<double>() / stated : kUndefined;
  const double tokens = answers.length.to(at::kDouble).sum().item<double>();
  const double distinct = hits.sum().item<double>();
  m.tokens = tokens / static_cast<double>(m.rows);
  m.tokens_per_distinct_correct = distinct > 0 ? tokens / distinct : kUndefined;

  // By confidence, absent slots last. Only rows that were asked for at least k answers count at k.
  const Tensor order = at::argsort(answers.confidence.to(at::kDouble).masked_fill(answers.present.logical_not(), -1.0),
                                   /*stable=*/true, 1, /*descending=*/true);
  const Tensor ranked = correct.gather(1, order), ranked_present = present.gather(1, order);
  for (int64_t i = 1; i <= slots; ++i) {
    const Tensor asked = answers.k.ge(i);
    const double count = asked.sum().item<double>();
    if (count == 0) continue;
    const auto mean = [&](const Tensor& row) { return (row * asked).sum().item<double>() / count; };
    const auto at = static_cast<size_t>(i - 1);
    m.coverage_at[at] = mean(hits.narrow(1, 0, i).sum(1) / static_cast<double>(i));
    m.pass_at[at] = mean(ranked.narrow(1, 0, i).amax(1));
    const double of_rank = ranked_present.select(1, i - 1).sum().item<double>();
    if (of_rank > 0) m.accuracy_by_rank[at] = ranked.select(1, i - 1).sum().item<double>() / of_rank;
  }
  return m;
}

std::map<std::string, double> to_metric_map(const SetMetrics& m) {
  std::map<std::string, double> map = {{"rows", static_cast<double>(m.rows)},
                                       {"answers", static_cast<double>(m.answers)},
                                       {"format_rate", m.format_rate},
                                       {"coverage", m.coverage},
                                       {"any_correct", m.any_correct},
                                       {"unique", m.unique},
                                       {"accuracy", m.accuracy},
                                       {"mean_confidence", m.mean_confidence},
                                       {"brier", m.brier},
                                       {"ece", m.ece},
                                       {"ece_equal_mass", m.ece_equal_mass},
                                       {"auroc", m.auroc},
                                       {"set_brier_sum", m.set_brier_sum},
                                       {"tokens", m.tokens},
                                       {"tokens_per_distinct_correct", m.tokens_per_distinct_correct}};
  for (size_t i = 0; i < m.coverage_at.size(); ++i) {
    map[fmt::format("coverage@{}", i + 1)] = m.coverage_at[i];
    map[fmt::format("pass@{}", i + 1)] = m.pass_at[i];
    map[fmt::format("accuracy@rank{}", i + 1)] = m.accuracy_by_rank[i];
  }
  return map;
}

}  // namespace plural
