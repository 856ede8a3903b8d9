// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "plural/checkpoint.h"
#include "plural/optimizer.h"
#include "plural/policy.h"

namespace plural {

/// What both trainers keep. Tensors alias the live ones.
TrainState collect_state(int64_t step, int64_t data_position, Policy& policy, const AdamW& optimizer);
/// Copies values into the policy's and the optimiser's own tensors. Missing, surplus or misshapen entries throw
/// InputError naming the parameter.
void restore_state(const TrainState& state, Policy& policy, AdamW& optimizer);

/// Copies saved values into `live`. Missing, surplus or misshapen entries throw InputError that begins with `where` and
/// names the parameter.
void restore_parameters(const NamedTensors& saved, const NamedTensors& live, const std::string& where);
/// Appends entries with `prefix` before their names.
void add_entries(NamedTensors& to, const std::string& prefix, const NamedTensors& entries);
/// Takes the entries that begin with `prefix` out of `from` and returns them without it.
NamedTensors take_entries(NamedTensors& from, const std::string& prefix);

}  // namespace plural
