// SPDX-License-Identifier: Apache-2.0
// The critic's part of an update, beside the policy's.
#pragma once

#include <span>
#include <vector>

#include "lib/train/micro_batches.h"
#include "lib/train/policy_update.h"
#include "plural/critic.h"
#include "plural/metrics.h"

namespace plural {

/// Regresses values towards the returns that the rows bring along, over the tokens of all rows that count. The loss is
/// value_weight x the mean over those tokens, however they are cut into micro-batches.
class CriticUpdate {
 public:
  /// `warming_up`: the policy must stay as it is, so a shared trunk gets no gradient.
  CriticUpdate(Critic& critic, AdamW& policy_optimizer, std::span<const UpdateRow> rows, int64_t max_batch_tokens,
               bool warming_up);
  /// Adds the gradient of one pass; true when the policy's parameters got a share.
  bool accumulate();
  /// Takes the critic's own optimiser step.
  void step(double learning_rate);
  /// "value/...": means over the passes so far.
  MetricMap metrics() const;

 private:
  struct Work {
    PackedBatch batch;
    Tensor old_value, returns;  // [M] float64
  };
  void describe_targets();

  Critic& critic_;
  AdamW& policy_optimizer_;  // of a shared trunk
  bool warming_up_;
  std::vector<Work> work_;
  double tokens_ = 0;
  MetricMap targets_;      // what the values were like before the update
  Tensor loss_, clipped_;  // sums over passes and tokens
  double grad_norm_ = 0, skipped_ = 0, steps_ = 0;
};

/// Values of every completion token, rows after one another, [M] on the CPU, without gradient.
Tensor row_values(Critic& critic, std::span<const PackRow> rows, int64_t max_batch_tokens);

}  // namespace plural
