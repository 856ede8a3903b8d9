// SPDX-License-Identifier: Apache-2.0
#include "plural/critic.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <optional>

#include "lib/core/format.h"
#include "lib/train/train_state.h"
#include "plural/checkpoint.h"
#include "plural/error.h"

namespace plural {

namespace {

constexpr const char* kLanguageModelHead = "lm_head.weight";  // no part of the hidden states

// A zero row of the shape [1, E]; E is asked of the trunk itself.
Tensor zero_head(Policy& trunk) {
  const at::NoGradGuard no_grad;
  const TokenId id = 0;
  const PackRow row{{&id, 1}, {}};
  const Tensor hidden = trunk.hidden(pack_rows({&row, 1}).to(trunk.device()));
  if (!hidden.defined())
    throw InputError("critic: a value head needs a trunk with hidden states (Policy::hidden), and this one has none");
  const at::ScalarType dtype = hidden.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  return at::zeros({1, hidden.size(1)}, hidden.options().dtype(dtype));
}

}  // namespace

Critic::Critic(Policy& policy, CriticOptions options) : Critic(&policy, nullptr, std::move(options)) {}

Critic::Critic(std::unique_ptr<Policy> trunk, CriticOptions options)
    : Critic(nullptr, std::move(trunk), std::move(options)) {}

Critic::Critic(Policy* policy, std::unique_ptr<Policy> own_trunk, CriticOptions options)
    : options_(std::move(options)),
      own_trunk_(std::move(own_trunk)),
      trunk_(own_trunk_ ? own_trunk_.get() : policy),
      weight_(zero_head(*trunk_).requires_grad_()),
      bias_(at::zeros({1}, weight_.options()).requires_grad_()),
      optimizer_(named_parameters(), options_.optimizer) {}

Tensor Critic::values(const PackedBatch& batch, bool head_only) {
  Tensor hidden;
  {
    std::optional<at::NoGradGuard> no_grad;
    if (head_only || options_.stop_gradient) no_grad.emplace();
    hidden = trunk_->hidden(batch).index_select(0, batch.source);
  }
  return at::linear(hidden.to(weight_.dtype()), weight_, bias_).squeeze(1);
}

NamedTensors Critic::named_parameters() const {
  NamedTensors parameters = {{"head.weight", weight_}, {"head.bias", bias_}};
  if (!own_trunk_ || options_.stop_gradient) return parameters;
  for (const auto& [name, parameter] : own_trunk_->named_parameters())
    if (name != kLanguageModelHead) parameters.emplace_back("trunk." + name, parameter);
  return parameters;
}

void Critic::save(const std::filesystem::path& dir) const {
  if (own_trunk_) own_trunk_->save(dir);
  std::filesystem::create_directories(dir);
  write_safetensors(head_file(dir), {{"head.weight", weight_.detach()}, {"head.bias", bias_.detach()}});
}

void Critic::load_head(const std::filesystem::path& dir) {
  const NamedTensors saved = read_safetensors(head_file(dir));
  restore_parameters(saved, {{"head.weight", weight_}, {"head.bias", bias_}}, head_file(dir).string());
}

ValueLoss value_loss(const Tensor& value, const Tensor& old_value, const Tensor& returns, double clip) {
  check_shapes({{"value", value, "M"}, {"old_value", old_value, "M"}, {"returns", returns, "M"}});
  const Tensor error = (value - returns).square();
  if (clip == 0) return {error.sum() / 2, at::zeros({}, error.options().requires_grad(false))};
  const Tensor near_old = value.clamp(old_value - clip, old_value + clip);
  const Tensor clipped_error = (near_old - returns).square();
  // Not at::maximum, which halves the gradient between equals: inside the range both errors are the same.
  const Tensor clipped = clipped_error.detach() > error.detach();
  return {at::where(clipped, clipped_error, error).sum() / 2, clipped.sum()};
}

}  // namespace plural
