// SPDX-License-Identifier: Apache-2.0
// Pieces of the reference trainer that change with the step, and the entropy reward (arXiv 2603.24844's code).
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "plural/tensor.h"

namespace plural {

/// Linear in t: `start` until t <= begin, `end` from t >= finish on.
double linear_ramp(double start, double end, int64_t t, int64_t begin, int64_t finish);

/// A reward's weight that moves from `start` to `end` between steps `ramp_start` and the last one. `max_steps` is the
/// configured number of steps, `planned_steps` the trainer's; where neither is positive, max(1000, 10 t) stands in.
double adaptive_weight(double start, double end, int64_t t, int64_t ramp_start, int64_t max_steps,
                       int64_t planned_steps);

/// The weight of the KL term, steered towards a target KL: once a step, beta += rate * (mean KL of the step before -
/// target), never below 1e-6; beta 0 starts at 0.01.
class AdaptiveBeta {
 public:
  AdaptiveBeta(double beta, double target, double rate)
      : beta_(beta == 0 ? 0.01 : beta), target_(target), rate_(rate) {}
  /// Takes the mean KL of each micro-batch of a step (nats) and returns the beta used in that step.
  double step(const std::vector<double>& micro_batch_kl);
  double beta() const { return beta_; }

 private:
  double beta_, target_, rate_;
  double sum_ = 0;
  int64_t count_ = 0;
};

struct EntropyRewardOptions {
  int64_t vocab_size = 151936;  ///< V
  int64_t decay_start_step = 200;
  double decay_final_factor = 0;
};

/// Mean token entropy / ln V in [0, 1], times the decay factor. `entropy` [B, T] nats; `mask` [B, T'] or undefined,
/// cut to the shorter of T and T'. `step` nullopt: no decay. A known step without max_steps >= 1 throws InputError.
/// Returns [B].
Tensor entropy_reward(const Tensor& entropy, const Tensor& mask, const EntropyRewardOptions& options,
                      std::optional<int64_t> step, std::optional<int64_t> max_steps);

/// Total of a row: sum of weight * value over the rewards that apply (NaN = does not). values [B, F], weights [F].
/// Returns [B] float32.
Tensor combine_rewards(const Tensor& values, const Tensor& weights);

}  // namespace plural
