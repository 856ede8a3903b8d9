// SPDX-License-Identifier: Apache-2.0
// plural metrics: calibration of (confidence, correct) pairs.
#include <cmath>
#include <map>
#include <memory>
#include <numeric>

#include "app/commands.h"
#include "app/line_io.h"
#include "lib/core/format.h"
#include "lib/eval/evaluation_json.h"
#include "plural/error.h"
#include "plural/evaluation.h"

namespace plural::app {
namespace {

struct MetricsArgs {
  IoPaths io;
  int64_t bins = 10;
  int64_t at_least = 10;
  BootstrapOptions bootstrap;
};

/// One line: a single answer or a set.
struct Row {
  Forecasts points;
  std::vector<std::string> classes;  ///< of the answers; empty = not given
  std::vector<double> probability;   ///< known probability of each answer; empty = not given
};

double correct_of(const Json& value) {
  if (value.is_boolean()) return value.get<bool>() ? 1 : 0;
  if (value.is_number() && (value.get<double>() == 0 || value.get<double>() == 1)) return value.get<double>();
  throw InputError(fmt::format("field 'correct': expected true, false, 0 or 1, found {}", to_line(value)));
}

double probability_of(const char* field, const Json& value) {
  if (value.is_number())
    if (const double number = value.get<double>(); number >= 0 && number <= 1) return number;
  throw InputError(fmt::format("field '{}': expected a number in [0, 1], found {}", field, to_line(value)));
}

std::string class_of(const Json& value) {
  if (value.is_string()) return value.get<std::string>();
  throw InputError(fmt::format("field 'class': expected a string, found {}", to_line(value)));
}

/// The values of a field as a list: a lone value is a list of one. All fields of a line are of one kind and length.
std::vector<Json> values_of(const Json& object, const char* field) {
  const Json& value = required(object, field);
  const Json& first = required(object, "confidence");
  const bool fits = value.is_array() == first.is_array() && (!value.is_array() || value.size() == first.size());
  if (!fits)
    throw InputError(
        fmt::format("fields 'confidence' and '{}': expected two single values or two lists of equal length", field));
  return value.is_array() ? value.get<std::vector<Json>>() : std::vector<Json>{value};
}

Row read_row(const Json& object) {
  Row row;
  for (const Json& value : values_of(object, "confidence"))
    row.points.confidence.push_back(probability_of("confidence", value));
  for (const Json& value : values_of(object, "correct")) row.points.correct.push_back(correct_of(value));
  if (object.contains("class"))
    for (const Json& value : values_of(object, "class")) row.classes.push_back(class_of(value));
  if (object.contains("probability")) {
    for (const Json& value : values_of(object, "probability"))
      row.probability.push_back(probability_of("probability", value));
    const double sum = std::accumulate(row.probability.begin(), row.probability.end(), 0.0);
    if (sum > 1 + 1e-6)
      throw InputError(
          fmt::format("field 'probability': the answers of a set exclude each other, so their probabilities sum to at "
                      "most 1, found {:.6g}",
                      sum));
  }
  return row;
}

double mean(const std::vector<double>& values) {
  double sum = 0;
  for (const double value : values) sum += value;
  return values.empty() ? std::nan("") : sum / static_cast<double>(values.size());
}

/// All rows as one table, with the labels that their points have.
struct Table {
  std::vector<Forecasts> rows;
  Forecasts points;
  Forecasts classified;  ///< the points with a class
  std::vector<std::string> classes;
  std::vector<double> total_variation, kl;  ///< of the rows with known probabilities

  void add(const Row& row) {
    rows.push_back(row.points);
    const auto append = [](auto& to, const auto& from) { to.insert(to.end(), from.begin(), from.end()); };
    append(points.confidence, row.points.confidence);
    append(points.correct, row.points.correct);
    if (!row.classes.empty()) {
      append(classes, row.classes);
      append(classified.confidence, row.points.confidence);
      append(classified.correct, row.points.correct);
    }
    if (!row.probability.empty()) {
      const KnownDistance distance = distance_from_known(row.points.confidence, row.probability);
      total_variation.push_back(distance.total_variation);
      kl.push_back(distance.kl);
    }
  }
};

/// The numbers that have intervals, in the order in which they are written.
std::vector<std::pair<std::string, double>> scalars(const Table& table, const MetricsArgs& args) {
  const Forecasts& points = table.points;
  const BrierDecomposition parts = decompose_brier(points, args.bins);
  std::vector<std::pair<std::string, double>> values = {
      {"accuracy", mean(points.correct)},
      {"mean_confidence", mean(points.confidence)},
      {"brier", brier_score(points)},
      {"brier_reliability", parts.reliability},
      {"brier_resolution", parts.resolution},
      {"brier_uncertainty", parts.uncertainty},
      {"brier_within_bins", parts.within_bins},
      {"ece", expected_calibration_error(points, args.bins)},
      {"ece_equal_mass", equal_mass_calibration_error(points, args.bins)},
      {"ece_debiased", debiased_calibration_error(points, args.bins)},
      {"auroc", auroc(points)},
      {"set_brier_sum", set_brier_sum(table.rows)},
      {"set_brier_mean", set_brier_mean(table.rows)}};
  if (!table.classes.empty())
    values.emplace_back("ece_classwise",
                        classwise_calibration_error(table.classified, table.classes, args.at_least, args.bins));
  if (!table.kl.empty()) {
    values.emplace_back("total_variation", mean(table.total_variation));
    values.emplace_back("kl", mean(table.kl));
  }
  return values;
}

Json intervals(const std::vector<Row>& rows, const MetricsArgs& args) {
  if (rows.empty() || args.bootstrap.replicates == 0) return Json::object();
  const auto statistics = [&](std::span<const int64_t> drawn) {
    Table table;
    for (const int64_t row : drawn) table.add(rows[static_cast<size_t>(row)]);
    const auto values = scalars(table, args);
    return std::map<std::string, double>(values.begin(), values.end());
  };
  return eval::to_json(bootstrap_intervals(static_cast<int64_t>(rows.size()), statistics, args.bootstrap));
}

/// The place in its set of each point, from 1.
std::vector<std::string> slots(const std::vector<Forecasts>& rows) {
  std::vector<std::string> numbers;
  for (const Forecasts& row : rows)
    for (size_t i = 1; i <= row.confidence.size(); ++i) numbers.push_back(std::to_string(i));
  return numbers;
}

Json summary(const std::vector<Row>& rows, const MetricsArgs& args) {
  Table table;
  for (const Row& row : rows) table.add(row);
  Json out = {{"count", table.points.correct.size()}};
  for (const auto& [name, value] : scalars(table, args)) out[name] = value;
  out["intervals"] = intervals(rows, args);
  out["by_slot"] = eval::to_json("slot", calibration_by_group(table.points, slots(table.rows), args.bins));
  if (!table.classes.empty())
    out["by_class"] = eval::to_json("class", calibration_by_group(table.classified, table.classes, args.bins));
  out["bins"] = eval::to_json(reliability_table(table.points, args.bins));
  return out;
}

int metrics(const MetricsArgs& args) {
  std::vector<Row> rows;
  return map_lines(
      args.io,
      [&](const InputLine& line) -> std::vector<Json> {
        rows.push_back(read_row(line.object));
        return {};
      },
      [&]() -> std::vector<Json> { return {summary(rows, args)}; });
}

}  // namespace

void add_metrics(CLI::App& app, int* exit_code) {
  auto args = std::make_shared<MetricsArgs>();
  CLI::App* command = app.add_subcommand(
      "metrics",
      "Calibration of answers: lines {\"confidence\", \"correct\"} (numbers, or lists for a set; \"class\" and the "
      "known "
      "\"probability\" of each answer if you like) -> one JSON object (Brier, ECE, AUROC, intervals, bins)");
  add_io_options(*command, &args->io);
  command->add_option("--bins", args->bins, "bins of the calibration error")
      ->check(CLI::Range(1, 10000))
      ->capture_default_str();
  command->add_option("--at-least", args->at_least, "points that a class needs to count in ece_classwise")
      ->check(CLI::Range(1, 1 << 30))
      ->capture_default_str();
  command->add_option("--bootstrap", args->bootstrap.replicates, "resamplings of the lines for intervals; 0 = none")
      ->check(CLI::Range(0, 1 << 20))
      ->capture_default_str();
  command->add_option("--level", args->bootstrap.level, "confidence level of the intervals")
      ->check(CLI::Range(0.5, 0.9999))
      ->capture_default_str();
  command->add_option("--seed", args->bootstrap.seed, "seed of the resampling")->capture_default_str();
  command->callback([=] { *exit_code = metrics(*args); });
}

}  // namespace plural::app
