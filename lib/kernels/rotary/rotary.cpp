// SPDX-License-Identifier: Apache-2.0
#include "lib/kernels/rotary/rotary.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/custom_function.h>

#include "plural/error.h"

namespace plural::kernels {
namespace {

namespace autograd = torch::autograd;

Tensor rotate(const Tensor& x, const Tensor& cos, const Tensor& sin, bool inverse) {
  if (x.is_cpu()) return detail::rotary_cpu(x, cos, sin, inverse);
  const Tensor c = cos.unsqueeze(1), s = inverse ? -sin.unsqueeze(1) : sin.unsqueeze(1);
  const auto halves = x.chunk(2, -1);
  return at::cat({halves[0] * c - halves[1] * s, halves[1] * c + halves[0] * s}, -1);
}

// A rotation's gradient is the rotation back; nothing of x need be kept.
class RotaryFunction : public autograd::Function<RotaryFunction> {
 public:
  static Tensor forward(autograd::AutogradContext* context, const Tensor& x, const Tensor& cos, const Tensor& sin) {
    const at::NoGradGuard no_grad;
    context->save_for_backward({cos, sin});
    return rotate(x, cos, sin, false);
  }
  static autograd::variable_list backward(autograd::AutogradContext* context, autograd::variable_list grads) {
    const auto saved = context->get_saved_variables();
    return {rotate(grads[0], saved[0], saved[1], true), Tensor(), Tensor()};
  }
};

}  // namespace

Tensor rotary(const Tensor& x, const Tensor& cos, const Tensor& sin) {
  PLURAL_CHECK(x.dim() == 3 && cos.dim() == 2 && cos.size(0) == x.size(0) && 2 * cos.size(1) == x.size(2) &&
                   cos.sizes() == sin.sizes(),
               "rotary takes x [N, H, D] and angles [N, D / 2]");
  return at::GradMode::is_enabled() && x.requires_grad() ? RotaryFunction::apply(x, cos, sin)
                                                         : rotate(x, cos, sin, false);
}

}  // namespace plural::kernels
