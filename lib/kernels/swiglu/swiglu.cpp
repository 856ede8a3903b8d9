// SPDX-License-Identifier: Apache-2.0
#include "lib/kernels/swiglu/swiglu.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/custom_function.h>

#include "plural/error.h"

namespace plural::kernels {
namespace {

namespace autograd = torch::autograd;

Tensor activate(const Tensor& gate, const Tensor& up) {
  return gate.is_cpu() ? detail::swiglu_cpu(gate, up) : at::silu(gate) * up;
}

// Keeps gate and up only: silu(gate) is cheaper to compute again than to store.
class SwigluFunction : public autograd::Function<SwigluFunction> {
 public:
  static Tensor forward(autograd::AutogradContext* context, const Tensor& gate, const Tensor& up) {
    const at::NoGradGuard no_grad;
    context->save_for_backward({gate, up});
    return activate(gate, up);
  }
  static autograd::variable_list backward(autograd::AutogradContext* context, autograd::variable_list grads) {
    const auto saved = context->get_saved_variables();
    const Tensor &gate = saved[0], &up = saved[1];
    if (gate.is_cpu()) {
      Tensor grad_gate = at::empty(gate.sizes(), gate.options()), grad_up = at::empty(up.sizes(), up.options());
      detail::swiglu_backward_cpu(grads[0].contiguous(), gate, up, grad_gate, grad_up);
      return {grad_gate, grad_up};
    }
    return {at::silu_backward(grads[0] * up, gate), grads[0] * at::silu(gate)};
  }
};

}  // namespace

Tensor swiglu(const Tensor& gate, const Tensor& up) {
  PLURAL_CHECK(gate.dim() == 2 && gate.sizes() == up.sizes() && gate.scalar_type() == up.scalar_type(),
               "swiglu takes gate and up [N, F] of one dtype");
  const bool records = at::GradMode::is_enabled() && (gate.requires_grad() || up.requires_grad());
  return records ? SwigluFunction::apply(gate, up) : activate(gate, up);
}

}  // namespace plural::kernels
