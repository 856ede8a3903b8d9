// SPDX-License-Identifier: Apache-2.0
#include "lib/train/step_metrics.h"

#include <ATen/ATen.h>

namespace plural {

namespace {

double mean_of(const Tensor& x) { return x.to(at::kDouble).mean().item<double>(); }

// Mean of x where mask holds; nothing is logged when it holds nowhere.
void put_mean(MetricMap& metrics, const std::string& name, const Tensor& x, const Tensor& mask) {
  const double count = mask.sum().item<double>();
  if (count > 0) metrics[name] = (x.to(at::kDouble) * mask.to(at::kDouble)).sum().item<double>() / count;
}

// [B, K] bool: the slot's answer is not empty and no earlier slot of the row has the same.
Tensor first_of_its_kind(const Tensor& key) {
  const Tensor same = key.unsqueeze(2) == key.unsqueeze(1);  // [B, K, K]: slot i equals slot j
  return same.tril(-1).any(2).logical_not().logical_and(key >= 0);
}

}  // namespace

MetricMap answer_metrics(const AnswerBatch& answers) {
  MetricMap metrics;
  if (answers.rows == 0 || answers.slots == 0) return metrics;
  const Tensor k = answers.k.to(at::kDouble);
  const Tensor correct = answers.correct();
  metrics["answers/format_rate"] = mean_of(answers.format_ok);
  metrics["answers/coverage"] = mean_of(answers.first_hit().to(at::kDouble).sum(1) / k);
  metrics["answers/unique"] = mean_of(first_of_its_kind(answers.key).to(at::kDouble).sum(1) / k);
  put_mean(metrics, "answers/accuracy", correct, answers.present);
  put_mean(metrics, "answers/mean_confidence", answers.confidence, answers.confidence_ok);
  put_mean(metrics, "answers/brier", (answers.confidence - correct).square(), answers.confidence_ok);
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

MetricMap credit_metrics(const Tensor& total, const Tensor& advantage, int64_t samples_per_prompt) {
  const Tensor flat = (advantage == 0).view({-1, samples_per_prompt});
  MetricMap metrics{{"reward/total/mean", mean_of(total)},
                    {"advantage/abs_mean", mean_of(advantage.abs())},
                    {"advantage/equal_groups", mean_of(flat.all(1))}};
  if (total.numel() > 1) metrics["reward/total/std"] = total.to(at::kDouble).std().item<double>();
  return metrics;
}

}  // namespace plural
