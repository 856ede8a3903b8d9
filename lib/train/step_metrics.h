// SPDX-License-Identifier: Apache-2.0
// Numbers of one RL step (docs/guides/metrics.md).
#pragma once

#include "plural/advantage.h"
#include "plural/answers.h"
#include "plural/metrics.h"
#include "plural/rollout.h"

namespace plural {

/// "answers/...": what the parsed sets are worth, before any reward.
MetricMap answer_metrics(const AnswerBatch& answers);
/// "rollout/...": lengths and endings.
MetricMap rollout_metrics(const RolloutBatch& rollout);
/// "reward/total/..." and "advantage/...": total and length [B], G rows a group.
MetricMap credit_metrics(const Tensor& total, const AdvantageOutput& advantage, const Tensor& length,
                         int64_t samples_per_prompt);

}  // namespace plural
