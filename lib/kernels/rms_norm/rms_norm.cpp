// SPDX-License-Identifier: Apache-2.0
#include "lib/kernels/rms_norm/rms_norm.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/custom_function.h>

#include "plural/error.h"

namespace plural::kernels {
namespace {

namespace autograd = torch::autograd;

at::ScalarType compute_type(const Tensor& x) { return x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat; }

struct Normalised {
  Tensor out, scale;  // [rows, E], [rows]
};

Normalised normalise(const Tensor& x, const Tensor& weight, double eps) {
  if (x.is_cpu()) {
    Normalised result{at::empty_like(x), at::empty({x.size(0)}, x.options().dtype(compute_type(x)))};
    detail::rms_norm_cpu(x, weight, eps, result.out, result.scale);
    return result;
  }
  const Tensor wide = x.to(compute_type(x));
  const Tensor scale = at::rsqrt(wide.square().mean(-1) + eps);
  return {weight * (wide * scale.unsqueeze(1)).to(x.scalar_type()), scale};
}

class RmsNorm : public autograd::Function<RmsNorm> {
 public:
  static Tensor forward(autograd::AutogradContext* context, const Tensor& x, const Tensor& weight, double eps) {
    const at::NoGradGuard no_grad;
    const Normalised result = normalise(x, weight, eps);
    context->save_for_backward({x, weight, result.scale});
    return result.out;
  }

  static autograd::variable_list backward(autograd::AutogradContext* context, autograd::variable_list grads) {
    const auto saved = context->get_saved_variables();
    const Tensor &x = saved[0], &weight = saved[1], &scale = saved[2];
    const Tensor grad = grads[0].contiguous();
    Tensor grad_x, grad_weight;
    if (x.is_cpu()) {
      grad_x = at::empty_like(x);
      grad_weight = at::empty(weight.sizes(), scale.options());
      detail::rms_norm_backward_cpu(grad, x, weight, scale, grad_x, grad_weight);
    } else {
      const Tensor normal = x.to(scale.scalar_type()) * scale.unsqueeze(1);
      const Tensor slope = grad.to(scale.scalar_type()) * weight;
      grad_x = (scale.unsqueeze(1) * (slope - normal * (slope * normal).mean(-1, true))).to(x.scalar_type());
      grad_weight = (grad * normal).sum(0);
    }
    return {grad_x, grad_weight.to(weight.scalar_type()), Tensor()};
  }
};

}  // namespace

Tensor rms_norm(const Tensor& x, const Tensor& weight, double eps) {
  PLURAL_CHECK(
      x.dim() >= 1 && weight.dim() == 1 && x.size(-1) == weight.size(0) && x.scalar_type() == weight.scalar_type(),
      "rms_norm takes x [..., E] and weight [E] of one dtype");
  const Tensor rows = x.reshape({-1, x.size(-1)}).contiguous();
  // Without a graph to record, the autograd wrapper is only overhead.
  const bool records = at::GradMode::is_enabled() && (x.requires_grad() || weight.requires_grad());
  const Tensor out = records ? RmsNorm::apply(rows, weight, eps) : normalise(rows, weight, eps).out;
  return out.view(x.sizes());
}

}  // namespace plural::kernels
