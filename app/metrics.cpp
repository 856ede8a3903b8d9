// SPDX-License-Identifier: Apache-2.0
// plural metrics: calibration of (confidence, correct) pairs.
#include <memory>

#include "app/commands.h"
#include "app/line_io.h"
#include "lib/core/format.h"
#include "plural/error.h"
#include "plural/evaluation.h"

namespace plural::app {
namespace {

struct MetricsArgs {
  IoPaths io;
  int64_t bins = 10;
};

double confidence_of(const Json& value) {
  if (!value.is_number())
    throw InputError(fmt::format("field 'confidence': expected a number in [0, 1], found {}", to_line(value)));
  const double confidence = value.get<double>();
  if (!(confidence >= 0 && confidence <= 1))
    throw InputError(fmt::format("field 'confidence': expected a number in [0, 1], found {}", to_line(value)));
  return confidence;
}

double correct_of(const Json& value) {
  if (value.is_boolean()) return value.get<bool>() ? 1 : 0;
  if (value.is_number() && (value.get<double>() == 0 || value.get<double>() == 1)) return value.get<double>();
  throw InputError(fmt::format("field 'correct': expected true, false, 0 or 1, found {}", to_line(value)));
}

/// One line: a single answer, or lists of equal length for a set.
Forecasts read_row(const Json& object) {
  const Json& confidence = required(object, "confidence");
  const Json& correct = required(object, "correct");
  Forecasts row;
  if (!confidence.is_array() && !correct.is_array()) {
    row.confidence.push_back(confidence_of(confidence));
    row.correct.push_back(correct_of(correct));
    return row;
  }
  if (!confidence.is_array() || !correct.is_array() || confidence.size() != correct.size()) {
    throw InputError("fields 'confidence' and 'correct': expected two numbers or two lists of equal length");
  }
  for (size_t i = 0; i < confidence.size(); ++i) {
    row.confidence.push_back(confidence_of(confidence[i]));
    row.correct.push_back(correct_of(correct[i]));
  }
  return row;
}

double mean(const std::vector<double>& values) {
  double sum = 0;
  for (const double value : values) sum += value;
  return sum / static_cast<double>(values.size());  // NaN for none: written as null
}

Json summary(const std::vector<Forecasts>& rows, int64_t bins) {
  const Forecasts points = pool(rows);
  Json out = {{"count", points.correct.size()},
              {"accuracy", mean(points.correct)},
              {"mean_confidence", mean(points.confidence)},
              {"brier", brier_score(points)},
              {"ece", expected_calibration_error(points, bins)},
              {"ece_equal_mass", equal_mass_calibration_error(points, bins)},
              {"auroc", auroc(points)},
              {"set_brier_sum", set_brier_sum(rows)},
              {"bins", Json::array()}};
  for (const ReliabilityBin& bin : reliability_table(points, bins)) {
    out["bins"].push_back({{"low", bin.low},
                           {"high", bin.high},
                           {"count", bin.count},
                           {"confidence", bin.mean_confidence},
                           {"accuracy", bin.mean_correct},
                           {"accuracy_interval", {bin.correct_interval.low, bin.correct_interval.high}}});
  }
  return out;
}

int metrics(const MetricsArgs& args) {
  std::vector<Forecasts> rows;
  return map_lines(
      args.io,
      [&](const InputLine& line) -> std::vector<Json> {
        rows.push_back(read_row(line.object));
        return {};
      },
      [&]() -> std::vector<Json> { return {summary(rows, args.bins)}; });
}

}  // namespace

void add_metrics(CLI::App& app, int* exit_code) {
  auto args = std::make_shared<MetricsArgs>();
  CLI::App* command = app.add_subcommand(
      "metrics",
      "Calibration of answers: lines {\"confidence\", \"correct\"} -> one JSON object (Brier, ECE, "
      "AUROC, bins)");
  add_io_options(*command, &args->io);
  command->add_option("--bins", args->bins, "bins of the calibration error")
      ->check(CLI::Range(1, 10000))
      ->capture_default_str();
  command->callback([=] { *exit_code = metrics(*args); });
}

}  // namespace plural::app
