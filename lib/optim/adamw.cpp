// SPDX-License-Identifier: Apache-2.0
#include <ATen/ATen.h>

#include <cmath>
#include <map>
#include <set>

#include "lib/core/format.h"
#include "lib/optim/adamw_update.h"
#include "plural/error.h"
#include "plural/optimizer.h"

namespace plural {

namespace {

// Low-precision parameters lose updates smaller than half a unit in the last place; a float32 master keeps them.
bool needs_master(const Tensor& parameter) {
  return parameter.scalar_type() == at::kBFloat16 || parameter.scalar_type() == at::kHalf;
}

Tensor contiguous_gradient(const Tensor& parameter, const Tensor& sum) {
  const Tensor& gradient = parameter.grad();
  if (!gradient.defined()) return sum;
  if (sum.defined()) return sum.add_(gradient.detach());
  return gradient.detach().to(parameter.scalar_type()).contiguous();
}

void copy_entry(const Tensor& target, const std::string& name, std::map<std::string, Tensor>& entries) {
  const auto it = entries.find(name);
  if (it == entries.end()) throw InputError(fmt::format("optimizer state: '{}' is missing", name));
  const Tensor& source = it->second;
  if (source.sizes() != target.sizes() || source.scalar_type() != target.scalar_type())
    throw InputError(fmt::format("optimizer state: '{}' is {} [{}], expected {} [{}]", name,
                                 c10::toString(source.scalar_type()), fmt::join(source.sizes(), ", "),
                                 c10::toString(target.scalar_type()), fmt::join(target.sizes(), ", ")));
  target.copy_(source);
  entries.erase(it);
}

}  // namespace

AdamW::AdamW(NamedTensors parameters, OptimizerOptions options) : options_(std::move(options)) {
  std::set<std::string> names;
  for (auto& [name, parameter] : parameters) {
    PLURAL_CHECK(names.insert(name).second, fmt::format("parameter '{}' is given twice", name));
    PLURAL_CHECK(parameter.is_contiguous(), fmt::format("parameter '{}' is not contiguous", name));
    Slot slot;
    slot.name = name;
    slot.parameter = parameter;
    const Tensor value = parameter.detach();
    slot.master = needs_master(parameter) ? value.to(at::kFloat) : value;
    slot.exp_avg = at::zeros_like(slot.master);
    slot.exp_avg_sq = at::zeros_like(slot.master);
    slot.decay = parameter.dim() >= 2;
    slots_.push_back(std::move(slot));
  }
}

StepResult AdamW::step(double learning_rate) {
  at::NoGradGuard no_grad;
  StepResult result;
  result.learning_rate = learning_rate;
  std::vector<Tensor> gradients;
  double squares = 0;
  for (const Slot& slot : slots_) {
    gradients.push_back(contiguous_gradient(slot.parameter, slot.gradient_sum));
    if (gradients.back().defined()) squares += squared_norm(gradients.back());
  }
  result.grad_norm = std::sqrt(squares);
  zero_grad();
  result.skipped = !std::isfinite(result.grad_norm);
  if (result.skipped) return result;

  ++steps_;
  const double t = static_cast<double>(steps_);
  AdamWNumbers numbers;
  numbers.beta1 = options_.beta1, numbers.beta2 = options_.beta2, numbers.eps = options_.eps;
  if (options_.max_grad_norm > 0 && result.grad_norm > options_.max_grad_norm)
    numbers.grad_scale = options_.max_grad_norm / result.grad_norm;
  numbers.step_size = learning_rate / (1.0 - std::pow(options_.beta1, t));
  numbers.v_scale = 1.0 / std::sqrt(1.0 - std::pow(options_.beta2, t));
  for (size_t i = 0; i < slots_.size(); ++i) {
    Slot& slot = slots_[i];
    const Tensor gradient = gradients[i].defined() ? gradients[i] : at::zeros_like(slot.parameter);
    gradients[i] = Tensor();  // freed as we go
    numbers.decay = slot.decay ? learning_rate * options_.weight_decay : 0.0;
    adamw_update_(slot.parameter.detach(), slot.master, slot.exp_avg, slot.exp_avg_sq, gradient, numbers);
    // The loops write behind autograd's back; caches that watch the version must still see the change.
    slot.parameter.unsafeGetTensorImpl()->bump_version();
  }
  return result;
}

void AdamW::set_gradients_aside() {
  at::NoGradGuard no_grad;
  for (Slot& slot : slots_) {
    const Tensor gradient = slot.parameter.grad();
    if (!needs_master(slot.parameter) || !gradient.defined()) continue;
    if (slot.gradient_sum.defined())
      slot.gradient_sum.add_(gradient.detach());
    else
      slot.gradient_sum = gradient.detach().to(at::kFloat).contiguous();
    slot.parameter.mutable_grad() = Tensor();
  }
}

void AdamW::zero_grad() {
  for (Slot& slot : slots_) slot.parameter.mutable_grad() = slot.gradient_sum = Tensor();
}

NamedTensors AdamW::state() const {
  NamedTensors state;
  state.emplace_back("step", at::scalar_tensor(steps_, at::kLong));
  for (const Slot& slot : slots_) {
    state.emplace_back(slot.name + ".exp_avg", slot.exp_avg);
    state.emplace_back(slot.name + ".exp_avg_sq", slot.exp_avg_sq);
    if (needs_master(slot.parameter)) state.emplace_back(slot.name + ".master", slot.master);
  }
  return state;
}

void AdamW::load_state(const NamedTensors& state) {
  at::NoGradGuard no_grad;
  std::map<std::string, Tensor> entries(state.begin(), state.end());
  const Tensor step = at::zeros({}, at::kLong);
  copy_entry(step, "step", entries);
  for (Slot& slot : slots_) {
    copy_entry(slot.exp_avg, slot.name + ".exp_avg", entries);
    copy_entry(slot.exp_avg_sq, slot.name + ".exp_avg_sq", entries);
    if (!needs_master(slot.parameter)) continue;
    copy_entry(slot.master, slot.name + ".master", entries);
    slot.parameter.copy_(slot.master);
  }
  if (!entries.empty())
    throw InputError(
        fmt::format("optimizer state: '{}' belongs to no parameter of this model", entries.begin()->first));
  steps_ = step.item<int64_t>();
}

}  // namespace plural
