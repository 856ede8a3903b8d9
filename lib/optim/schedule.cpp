// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <numbers>

#include "lib/core/format.h"
#include "plural/error.h"
#include "plural/optimizer.h"

namespace plural {

double schedule_factor(const OptimizerOptions& options, int64_t step, int64_t total_steps) {
  // Step 0 already learns: warm-up goes 1/w, 2/w, ... 1.
  if (step < options.warmup_steps) return static_cast<double>(step + 1) / static_cast<double>(options.warmup_steps);
  if (options.schedule == "constant") return 1.0;
  const double span = static_cast<double>(std::max<int64_t>(1, total_steps - 1 - options.warmup_steps));
  const double progress = std::min(1.0, static_cast<double>(step - options.warmup_steps) / span);
  const double rest = 1.0 - options.final_factor;
  if (options.schedule == "linear") return 1.0 - rest * progress;
  if (options.schedule == "cosine")
    return options.final_factor + rest * 0.5 * (1.0 + std::cos(std::numbers::pi * progress));
  throw InputError(fmt::format("schedule: expected one of constant, linear, cosine; got '{}'", options.schedule));
}

}  // namespace plural
