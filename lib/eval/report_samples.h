// SPDX-License-Identifier: Apache-2.0
// The sample completions of a report, as HTML: answers and confidences marked where they stand. "" when there are none.
#pragma once

#include <string>

#include "lib/eval/report_data.h"

namespace plural::eval {

/// The same prompts under every evaluation, side by side: the best, the worst and some others of the last stage.
std::string eval_samples(const EvalGroup& evals);

/// Completions of the last training step.
std::string training_samples(const ReportData& data);

}  // namespace plural::eval
