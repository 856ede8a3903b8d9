// SPDX-License-Identifier: Apache-2.0
// Evaluates a model: samples answer sets for a data set, parses and matches them, and measures.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "lib/eval/svg_chart.h"
#include "plural/answers.h"
#include "plural/metrics.h"
#include "plural/rollout.h"

namespace plural::eval {

struct EvaluatorOptions {
  int64_t num_answers = 3;         ///< K
  int64_t samples_per_prompt = 1;  ///< sets drawn for each prompt
  /// Ask K times for one answer instead of once for K; the K single answers form the set and their
  /// tokens add up.
  bool independent = false;
  SamplingOptions sampling;
  uint64_t seed = 1;
  /// Called now and then with (prompts done, all prompts). May be empty.
  std::function<void(int64_t, int64_t)> progress;
};

/// What an evaluation works with; borrowed.
struct EvaluatorParts {
  RolloutEngine& engine;
  const Tokenizer& tokenizer;
  std::span<const Example> examples;
  const AnswerFormat& format;
  const Matcher& matcher;
};

struct Evaluation {
  int64_t num_answers = 0;
  MetricMap metrics;  ///< the names of to_metric_map(SetMetrics), and "distinct_correct" (in one
                      ///< set)
  std::vector<ReliabilityBar> bins;
  std::string samples;  ///< JSON Lines, one set a line (lib/eval/sample_record.h)
};

/// The prompt of an example asking for k answers, as ids.
std::vector<TokenId> evaluation_prompt(const EvaluatorParts& parts, const Example& example, int64_t k);

/// Deterministic given the seed: row r of the whole evaluation draws from (seed, 0, r).
Evaluation evaluate_answers(const EvaluatorParts& parts, const EvaluatorOptions& options);

/// What `dir`/metrics.json says beside the numbers.
struct EvaluationInfo {
  std::string title, model, data, format, matcher;
  int64_t prompts = 0;
};
/// Writes metrics.json and samples.jsonl of evaluations of one model with several K, the main one
/// first.
void write_evaluation(const std::filesystem::path& dir, const std::vector<Evaluation>& evaluations,
                      const EvaluatorOptions& options, const EvaluationInfo& info);

}  // namespace plural::eval
