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
  at::NoGradGuard no_grad;
  std::map<std::string, Tensor> saved(state.parameters.begin(), state.parameters.end());
  for (const auto& [name, parameter] : policy.named_parameters()) {
    const auto it = saved.find(name);
    if (it == saved.end()) throw InputError(fmt::format("checkpoint: parameter '{}' is missing", name));
    const Tensor& value = it->second;
    if (value.sizes() != parameter.sizes() || value.scalar_type() != parameter.scalar_type())
      throw InputError(fmt::format("checkpoint: parameter '{}' is {} [{}], the model has {} [{}]", name,
                                   c10::toString(value.scalar_type()), fmt::join(value.sizes(), ", "),
                                   c10::toString(parameter.scalar_type()), fmt::join(parameter.sizes(), ", ")));
    parameter.detach().copy_(value);
    saved.erase(it);
  }
  if (!saved.empty())
    throw InputError(fmt::format("checkpoint: parameter '{}' is not one of this model", saved.begin()->first));
  optimizer.load_state(state.optimizer);
}

}  // namespace plural
