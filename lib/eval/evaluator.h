// SPDX-License-Identifier: Apache-2.0
// Measures sets of answers and writes what `plural eval` leaves on disk.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <span>
#include <stop_token>
#include <string>
#include <vector>

#include "lib/eval/set_sampling.h"
#include "plural/answers.h"
#include "plural/evaluation.h"
#include "plural/metrics.h"

namespace plural::eval {

struct Evaluation {
  int64_t num_answers = 0;
  /// The names of to_metric_map(SetMetrics), "completion_characters" (a row), "forced_answers" (a row) and
  /// "forced_confidences" (an answer); with a matcher that asks outside its counts under "match/".
  MetricMap metrics;
  std::string match_problem;                  ///< why some answers could not be judged (they count as wrong); "" = none
  std::map<std::string, Interval> intervals;  ///< of the metrics, by bootstrap over prompts
  std::vector<ReliabilityBin> bins;
  std::vector<CoveragePoint> curve;
  std::vector<GroupCalibration> by_answer;  ///< answers stated at least 10 times, the most frequent first, at most 20
  std::vector<GroupCalibration> by_source;  ///< by the examples' source, when they have one
  std::string samples;                      ///< JSON Lines, one set a line (lib/eval/sample_record.h)
};

/// All sets were asked for k answers. No replicates, no intervals. `stop` ends the wait for a matcher that asks
/// outside; Interrupted is thrown then.
Evaluation evaluate(std::span<const SampledSet> sets, int64_t k, const AnswerFormat& format, const Matcher& matcher,
                    const BootstrapOptions& bootstrap = {.replicates = 0}, const std::stop_token& stop = {});

/// What metrics.json says beside the numbers.
struct EvaluationInfo {
  /// `baseline`: what the evaluation is compared with the model's own as; "" = the model's own.
  std::string title, mode, confidence, baseline, model, data, data_name, format, matcher;
  uint64_t seed = 1;
  int64_t prompts = 0, samples_per_prompt = 1;
  std::optional<SamplingOptions> sampling;  ///< none when the completions were there already
};
/// Writes metrics.json and samples.jsonl of evaluations of one model with several K, the main one first.
void write_evaluation(const std::filesystem::path& dir, const std::vector<Evaluation>& evaluations,
                      const EvaluationInfo& info);

}  // namespace plural::eval
