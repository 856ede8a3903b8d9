// SPDX-License-Identifier: Apache-2.0
// Weights that follow what a step measured.
#include <algorithm>
#include <cmath>

#include "lib/objectives/parts.h"

namespace plural {

namespace {

// Ziegler et al. (arXiv 1909.08593, eq. 4) as PPO trainers have it: the error is clipped, and a batch moves beta by its
// share of the horizon.
double proportional_kl(double beta, const StepMeasure& seen, const ObjectiveOptions& options) {
  const double error = std::clamp(seen.kl / options.kl_target - 1.0, -0.2, 0.2);
  return beta * (1.0 + error * seen.rows / options.kl_horizon);
}

// The reference code of arXiv 2603.24844: the KL of a step moves the beta of the next.
double additive_kl(double beta, const StepMeasure& seen, const ObjectiveOptions& options) {
  return std::max(1e-6, beta + options.kl_rate * (seen.kl - options.kl_target));
}

}  // namespace

ObjectiveWeights first_weights(const ObjectiveOptions& options) {
  ObjectiveWeights weights{options.kl_weight, options.entropy_weight, options.entropy_weight};
  if (options.kl_target > 0 && weights.kl == 0) weights.kl = 0.01;  // additive; an unpaid KL would never be measured
  if (options.entropy_target > 0) weights.entropy = 0;              // no entropy has been seen yet
  return weights;
}

ObjectiveWeights controlled_weights(const ObjectiveWeights& now, const StepMeasure& seen,
                                    const ObjectiveOptions& options) {
  // A step whose numbers broke has measured nothing: one NaN would stay in the weights, and so in every later loss.
  if (!std::isfinite(seen.kl) || !std::isfinite(seen.entropy)) return now;
  ObjectiveWeights next = now;
  if (options.kl_target > 0)
    next.kl = options.kl_controller == "additive" ? additive_kl(now.kl, seen, options)
                                                  : proportional_kl(now.kl, seen, options);
  if (options.entropy_target > 0) {
    // Skywork-OR1 (arXiv 2505.22312): one step up below the target, one down above it; paid below it only.
    const bool low = seen.entropy <= options.entropy_target;
    next.entropy_ready = std::clamp(now.entropy_ready + (low ? options.entropy_rate : -options.entropy_rate), 0.0,
                                    options.entropy_max);
    next.entropy = low ? next.entropy_ready : 0.0;
  }
  return next;
}

}  // namespace plural
