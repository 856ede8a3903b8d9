// SPDX-License-Identifier: Apache-2.0
// What a report shows, read from disk. Unreadable lines of logs are skipped: a killed run leaves a torn one.
#pragma once

#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "lib/eval/svg_chart.h"

namespace plural::eval {

using Points = std::vector<std::pair<double, double>>;

/// One evals/<name>/ folder.
struct EvalData {
  std::string name, title;
  nlohmann::json info;                  ///< metrics.json
  std::vector<nlohmann::json> samples;  ///< of samples.jsonl the first set of each prompt with the main K
  /// One completion holds the whole set (else K completions of one answer each).
  bool asks_for_sets() const;
  /// A stage of the model itself rather than a baseline: asked for sets in its format, confidences as stated.
  bool plain() const;
  std::string data() const;                                          ///< the data file
  std::string data_name() const;                                     ///< a short name for it
  double metric(const std::string& key) const;                       ///< of the main K; NaN when absent
  std::pair<double, double> interval(const std::string& key) const;  ///< of the main K; NaNs when absent
  std::vector<ReliabilityBar> bins() const;                          ///< of the main K
  Points by_num_answers(const std::string& key) const;
  /// Of the points of the curve of the main K: (x, y) by their keys.
  Points curve(const std::string& x, const std::string& y) const;
};

/// Evaluations on one data set.
using EvalGroup = std::vector<const EvalData*>;
/// The stages of the model itself among them, without baselines.
EvalGroup plain_evals(const EvalGroup& evals);

struct ReportData {
  std::filesystem::path dir;
  nlohmann::json manifest;               ///< null when absent
  std::string config;                    ///< config.yaml as text
  std::map<std::string, Points> curves;  ///< of metrics.jsonl, by name
  std::vector<EvalData> evals;
  std::vector<nlohmann::json> last_samples;  ///< rows of the last step, when there are no evaluations
  int64_t last_sample_step = 0;
};

/// The last part of a path, also of one that ends with a slash.
std::string folder_name(const std::filesystem::path& dir);

/// Throws InputError when `dir` is neither a run folder nor an evaluation.
ReportData load_report_data(const std::filesystem::path& dir);

}  // namespace plural::eval
