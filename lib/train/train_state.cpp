// SPDX-License-Identifier: Apache-2.0
#include "lib/train/train_state.h"

#include <ATen/ATen.h>

#include <map>

#include "lib/core/format.h"
#include "plural/error.h"

namespace plural {

TrainState collect_state(int64_t step, int64_t data_position, Policy& policy, const AdamW& optimizer) {
  TrainState state;
  state.step = step;
  state.data_position = data_position;
  for (const auto& [name, parameter] : policy.named_parameters())
    state.parameters.emplace_back(name, parameter.detach());
  state.optimizer = optimizer.state();
  return state;
}

void restore_state(const TrainState& state, Policy& policy, AdamW& optimizer) {
  restore_parameters(state.parameters, policy.named_parameters(), "checkpoint");
  optimizer.load_state(state.optimizer);
}

void restore_parameters(const NamedTensors& saved, const NamedTensors& live, const std::string& where) {
  at::NoGradGuard no_grad;
  std::map<std::string, Tensor> values(saved.begin(), saved.end());
  for (const auto& [name, parameter] : live) {
    const auto it = values.find(name);
    if (it == values.end()) throw InputError(fmt::format("{}: parameter '{}' is missing", where, name));
    const Tensor& value = it->second;
    if (value.sizes() != parameter.sizes() || value.scalar_type() != parameter.scalar_type())
      throw InputError(fmt::format("{}: parameter '{}' is {} [{}], the model has {} [{}]", where, name,
                                   c10::toString(value.scalar_type()), fmt::join(value.sizes(), ", "),
                                   c10::toString(parameter.scalar_type()), fmt::join(parameter.sizes(), ", ")));
    parameter.detach().copy_(value);
    values.erase(it);
  }
  if (!values.empty())
    throw InputError(fmt::format("{}: parameter '{}' is not one of this model", where, values.begin()->first));
}

void add_entries(NamedTensors& to, const std::string& prefix, const NamedTensors& entries) {
  for (const auto& [name, value] : entries) to.emplace_back(prefix + name, value.detach());
}

NamedTensors take_entries(NamedTensors& from, const std::string& prefix) {
  NamedTensors taken, kept;
  for (auto& [name, value] : from) {
    const bool mine = name.starts_with(prefix);
    (mine ? taken : kept).emplace_back(mine ? name.substr(prefix.size()) : name, value);
  }
  from = std::move(kept);
  return taken;
}

}  // namespace plural
