// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "plural/checkpoint.h"
#include "plural/optimizer.h"
#include "plural/policy.h"

namespace plural {

/// What both trainers keep. Tensors alias the live ones.
TrainState collect_state(int64_t step, int64_t data_position, Policy& policy, const AdamW& optimizer);
/// Copies values into the policy's and the optimiser's own tensors. Missing, surplus or misshapen entries throw
/// InputError naming the parameter.
void restore_state(const TrainState& state, Policy& policy, AdamW& optimizer);

}  // namespace plural
