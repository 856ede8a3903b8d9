// SPDX-License-Identifier: Apache-2.0
#include "lib/models/prepack.h"

#include <ATen/ATen.h>
#include <ATen/core/List.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/grad_mode.h>

#include <numeric>
#include <optional>

namespace plural {
namespace {

constexpr int64_t kMostBytes = int64_t{4} << 30;

/// The operators that LibTorch's own compiler uses for this; a build without oneDNN has none.
struct Operators {
  std::optional<c10::OperatorHandle> supported, reorder, linear;
};

const Operators& operators() {
  static const Operators found = [] {
    const auto find = [](const char* name) { return c10::Dispatcher::singleton().findSchema({name, ""}); };
    return Operators{find("mkldnn::_is_mkldnn_bf16_supported"), find("mkldnn::_reorder_linear_weight"),
                     find("mkldnn::_linear_pointwise")};
  }();
  return found;
}

c10::IValue call(const c10::OperatorHandle& op, std::vector<c10::IValue> stack) {
  op.callBoxed(stack);
  return stack.front();
}

bool can_prepack(const Tensor& weight) {
  const Operators& op = operators();
  return weight.is_cpu() && weight.scalar_type() == at::kBFloat16 && op.supported && op.reorder && op.linear &&
         at::globalContext().userEnabledMkldnn() && call(*op.supported, {}).toBool();
}

Tensor prepack(const Tensor& weight) {
  constexpr int64_t kRows = 32;  // the layout is chosen for about so many
  return call(*operators().reorder, {weight, kRows}).toTensor();
}

}  // namespace

std::shared_ptr<const PrepackedWeights> prepack_weights(const TransformerWeights& weights) {
  if (!can_prepack(weights.head)) return nullptr;
  const int64_t elements = std::accumulate(
      weights.layers.begin(), weights.layers.end(), weights.head.numel(), [](int64_t sum, const LayerWeights& layer) {
        return sum + layer.qkv.numel() + layer.o.numel() + layer.gate_up.numel() + layer.down.numel();
      });
  if (elements * weights.head.element_size() > kMostBytes) return nullptr;
  const at::NoGradGuard no_grad;
  auto packed = std::make_shared<PrepackedWeights>();
  for (const LayerWeights& layer : weights.layers)
    packed->layers.push_back({prepack(layer.qkv), prepack(layer.o), prepack(layer.gate_up), prepack(layer.down)});
  packed->head = prepack(weights.head);
  return packed;
}

Tensor prepacked_linear(const Tensor& x, const Tensor& prepacked, const Tensor& bias) {
  const c10::List<std::optional<c10::Scalar>> no_scalars;
  return call(*operators().linear,
              {x, prepacked, bias.defined() ? c10::IValue(bias) : c10::IValue(), "none", no_scalars, ""})
      .toTensor();
}

}  // namespace plural
