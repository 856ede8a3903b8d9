// SPDX-License-Identifier: Apache-2.0
// The update of an RL step: rows and their advantages in, changed parameters and numbers about the change out.
#pragma once

#include <optional>
#include <span>
#include <vector>

#include "plural/critic.h"
#include "plural/metrics.h"
#include "plural/objective.h"
#include "plural/optimizer.h"
#include "plural/policy.h"

namespace plural {

struct UpdateParts {
  Policy& policy;
  Policy* reference = nullptr;  ///< needed when the objective says so
  const Objective& objective;
  AdamW& optimizer;
  Critic* critic = nullptr;  ///< learns in the same passes
};

struct UpdateOptions {
  int64_t passes = 1;
  int64_t max_batch_tokens = 8192;
  int64_t max_new_tokens = 1;  ///< L_max of Dr.GRPO
  double temperature = 1.0;    ///< log-probs are those of the distribution that was sampled from
  double learning_rate = 0;
  double critic_learning_rate = 0;
  bool critic_only = false;                   ///< the policy stays as it is
  std::optional<ObjectiveWeights> weights{};  ///< of this step; absent = the objective's first ones
};

/// One row of the optimiser batch.
struct UpdateRow {
  PackRow ids;
  std::span<const float> sampler_log_probs;  ///< as many as completion ids
  double advantage = 0;
  std::span<const double> token_advantage{};   ///< as many as completion ids; empty = `advantage` for each
  std::span<const double> value{}, returns{};  ///< with a critic: as many as completion ids
  bool older_policy = false;                   ///< sampled by the policy of an earlier step, which pi_old then is
  bool counts = true;                          ///< false: neither learned from nor counted in the normalisers
};

/// One row whose likelihood is to grow, whatever its advantage.
struct LikelihoodRow {
  PackRow ids;
  std::vector<double> weight;  ///< as many as completion ids: the loss grows by weight x -ln p of each token
};

/// Takes one optimiser step a pass. Rows of zero advantage (in all of their tokens) count in the normalisers but cost
/// neither forward nor backward, unless the objective has a KL or an entropy term; when no row is left, nothing
/// changes.
///
/// Old log-probs are the trainer's own at the start of the step. In the first pass they are the current ones:
/// the ratio is exactly 1 and no extra forward is needed; later passes reuse those of the first. The sampler's
/// log-probs come from the same weights, so they only serve to measure policy/sampler_trainer_diff, unless the
/// objective asks for them. Those of an older policy are its rows' old log-probs.
///
/// A critic is trained towards `returns` on the tokens of all rows that count, whatever their advantage. Both gradients
/// of a pass are taken before either optimiser steps; what reaches the policy through a shared trunk adds to its own.
///
/// An objective that masks tokens sees all of them before every pass, in a forward without gradient; tokens that do not
/// count are then gone from the loss and from every normaliser, but not from the ratios of whole rows.
///
/// Every pass adds the gradient of the likelihood rows; with such rows there is a step even when no other row learns.
MetricMap update_policy(const UpdateParts& parts, std::span<const UpdateRow> rows, const UpdateOptions& options,
                        std::span<const LikelihoodRow> likelihood = {});

/// ln p of every completion token, rows after one another, [M] on the CPU, without gradient.
Tensor row_log_probs(Policy& policy, std::span<const PackRow> rows, int64_t max_batch_tokens, double temperature);

}  // namespace plural
