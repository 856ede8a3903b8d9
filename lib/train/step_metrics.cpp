// SPDX-License-Identifier: Apache-2.0
#include "lib/train/step_metrics.h"

#include <ATen/ATen.h>

#include <cmath>

#include "plural/evaluation.h"

namespace plural {

namespace {

double mean_of(const Tensor& x) { return x.to(at::kDouble).mean().item<double>(); }

}  // namespace

MetricMap answer_metrics(const AnswerBatch& answers) {
  const MetricMap all = to_metric_map(evaluate_sets(answers));
  MetricMap metrics;
  for (const char* name : {"format_rate", "coverage", "any_correct", "unique", "accuracy", "mean_confidence", "brier",
                           "ece", "tokens_per_distinct_correct"})
    // Nothing to measure (no valid confidence, no correct answer) is NaN there and absent here.
    if (const double value = all.at(name); std::isfinite(value)) metrics[std::string("answers/") + name] = value;
  return metrics;
}

MetricMap rollout_metrics(const RolloutBatch& rollout) {
  double truncated = 0, tokens = 0, surprisal = 0;
  for (const Completion& row : rollout.rows) {
    truncated += row.finish == FinishReason::kLength ? 1 : 0;
    tokens += static_cast<double>(row.ids.size());
    for (float log_prob : row.log_probs) surprisal -= log_prob;
  }
  const double rows = static_cast<double>(rollout.rows.size());
  return {{"rollout/tokens", tokens},
          {"rollout/length_mean", tokens / rows},
          {"rollout/truncated", truncated / rows},
          {"rollout/surprisal", surprisal / tokens}};
}

MetricMap credit_metrics(const Tensor& total, const AdvantageOutput& advantage, const Tensor& length,
                         int64_t samples_per_prompt) {
  Tensor learns = advantage.row.ne(0);
  double size = mean_of(advantage.row.abs());
  if (advantage.token.defined()) {
    const Tensor row = at::repeat_interleave(length);
    learns = at::zeros_like(length).index_add(0, row, advantage.token.ne(0).to(length.scalar_type())).gt(0);
    size = mean_of(advantage.token.abs());
  }
  const Tensor flat = learns.view({-1, samples_per_prompt}).any(1).logical_not();
  MetricMap metrics{
      {"reward/total/mean", mean_of(total)}, {"advantage/abs_mean", size}, {"advantage/equal_groups", mean_of(flat)}};
  if (total.numel() > 1) metrics["reward/total/std"] = total.to(at::kDouble).std().item<double>();
  return metrics;
}

}  // namespace plural
