// SPDX-License-Identifier: Apache-2.0
#include "lib/train/critic_update.h"

#include <ATen/ATen.h>

#include "plural/error.h"

namespace plural {

CriticUpdate::CriticUpdate(Critic& critic, AdamW& policy_optimizer, std::span<const UpdateRow> rows,
                           int64_t max_batch_tokens, bool warming_up)
    : critic_(critic), policy_optimizer_(policy_optimizer), warming_up_(warming_up) {
  std::vector<const UpdateRow*> counted;
  std::vector<PackRow> ids;
  for (const UpdateRow& row : rows) {
    if (!row.counts || row.ids.completion.empty()) continue;
    PLURAL_CHECK(row.value.size() == row.ids.completion.size() && row.returns.size() == row.value.size(),
                 "a critic needs a value and a return for each token of a row");
    counted.push_back(&row);
    ids.push_back(row.ids);
    tokens_ += static_cast<double>(row.value.size());
  }
  for (const Span& run : cut_rows(ids, max_batch_tokens)) {
    std::vector<double> value, returns;
    for (int64_t r = run.begin; r < run.end; ++r) {
      const UpdateRow& row = *counted[static_cast<size_t>(r)];
      value.insert(value.end(), row.value.begin(), row.value.end());
      returns.insert(returns.end(), row.returns.begin(), row.returns.end());
    }
    work_.push_back({pack_micro_batch(ids, run, critic.device()).batch,
                     at::tensor(value, at::kDouble).to(critic.device()),
                     at::tensor(returns, at::kDouble).to(critic.device())});
  }
  if (!work_.empty()) describe_targets();
}

void CriticUpdate::describe_targets() {
  std::vector<Tensor> values, targets;
  for (const Work& work : work_) values.push_back(work.old_value), targets.push_back(work.returns);
  const Tensor value = at::cat(values), returns = at::cat(targets);
  targets_["value/mean"] = value.mean().item<double>();
  targets_["value/return_mean"] = returns.mean().item<double>();
  const double spread = returns.var(0, /*unbiased=*/false).item<double>();
  if (spread > 0)
    targets_["value/explained_variance"] = 1 - (returns - value).var(0, /*unbiased=*/false).item<double>() / spread;
}

bool CriticUpdate::accumulate() {
  const CriticOptions& options = critic_.options();
  for (const Work& work : work_) {
    // While the critic warms up, the policy must not move; a trunk of the critic's own learns all the same.
    const Tensor value = critic_.values(work.batch, /*head_only=*/warming_up_ && critic_.moves_policy());
    const ValueLoss part = value_loss(value, work.old_value.to(value.dtype()), work.returns.to(value.dtype()),
                                      options.value_clip);
    critic_.optimizer().set_gradients_aside();
    if (critic_.moves_policy()) policy_optimizer_.set_gradients_aside();
    (part.loss * (options.value_weight / tokens_)).backward();
    const Tensor loss = part.loss.detach().to(at::kDouble), clipped = part.clipped.to(at::kDouble);
    loss_ = loss_.defined() ? loss_ + loss : loss;
    clipped_ = clipped_.defined() ? clipped_ + clipped : clipped;
  }
  return !work_.empty() && !warming_up_ && critic_.moves_policy();
}

void CriticUpdate::step(double learning_rate) {
  if (work_.empty()) return;
  const StepResult result = critic_.optimizer().step(learning_rate);
  grad_norm_ += result.grad_norm;
  skipped_ += result.skipped ? 1 : 0;
  ++steps_;
}

MetricMap CriticUpdate::metrics() const {
  MetricMap metrics = targets_;
  if (steps_ == 0) return metrics;
  metrics["value/loss"] = loss_.item<double>() / (tokens_ * steps_);
  metrics["value/clip_fraction"] = clipped_.item<double>() / (tokens_ * steps_);
  metrics["value/grad_norm"] = grad_norm_ / steps_;
  metrics["value/skipped"] = skipped_;
  return metrics;
}

Tensor row_values(Critic& critic, std::span<const PackRow> rows, int64_t max_batch_tokens) {
  const at::NoGradGuard no_grad;
  std::vector<Tensor> parts;
  for (const Span& run : cut_rows(rows, max_batch_tokens))
    parts.push_back(critic.values(pack_micro_batch(rows, run, critic.device()).batch).to(at::kCPU));
  return parts.empty() ? at::zeros({0}) : at::cat(parts);
}

}  // namespace plural
