// SPDX-License-Identifier: Apache-2.0
#include "lib/train/moving_reference.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <map>

#include "lib/core/format.h"
#include "lib/train/train_state.h"
#include "plural/error.h"

namespace plural {

MovingReference::MovingReference(Policy& reference, Policy& policy, ReferenceUpdateOptions options)
    : options_(options) {
  const NamedTensors own = reference.named_parameters(), of_policy = policy.named_parameters();
  const std::map<std::string, Tensor> source(of_policy.begin(), of_policy.end());
  for (const auto& [name, parameter] : own) {
    const auto it = source.find(name);
    if (own.size() != of_policy.size() || it == source.end() || it->second.sizes() != parameter.sizes())
      throw InputError(
          fmt::format("objective.reference_update: the reference can follow only a model of its own shape, and its "
                      "parameter '{}' [{}] is not one of the policy's; take a reference of the same architecture",
                      name, fmt::join(parameter.sizes(), ", ")));
    const bool small = parameter.scalar_type() == at::kBFloat16 || parameter.scalar_type() == at::kHalf;
    const Tensor live = parameter.detach();
    slots_.push_back({name, live, small && options_.rate < 1 ? live.to(at::kFloat) : live, it->second.detach()});
  }
}

void MovingReference::after_step(int64_t step) {
  if (step % options_.every != 0) return;
  const at::NoGradGuard no_grad;
  for (Slot& slot : slots_) slot.average.lerp_(slot.policy.to(slot.average.dtype()), options_.rate);
  publish();
}

void MovingReference::publish() {
  for (Slot& slot : slots_)
    if (!slot.average.is_same(slot.reference)) slot.reference.copy_(slot.average);
}

NamedTensors MovingReference::state() const {
  NamedTensors state;
  for (const Slot& slot : slots_) state.emplace_back(slot.name, slot.average);
  return state;
}

void MovingReference::restore(const NamedTensors& saved) {
  restore_parameters(saved, state(), "checkpoint: reference");
  publish();
}

}  // namespace plural
