// SPDX-License-Identifier: Apache-2.0
#include "lib/kernels/rotary/rotary.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/custom_function.h>

#include "lib/kernels/dispatch.h"
#include "lib/kernels/element_type.h"
#include "lib/kernels/rotary/rotary_raw.h"
#include "plural/error.h"

namespace plural::kernels {
namespace {

namespace autograd = torch::autograd;

Tensor rotate(const Tensor& x, const Tensor& cos, const Tensor& sin, bool inverse) {
  const CudaKernels* cuda = cuda_kernels_for(x);
  if (cuda == nullptr) return detail::rotary_cpu(x, cos, sin, inverse);
  const Tensor source = x.stride(2) == 1 ? x : x.contiguous();
  Tensor out = at::empty(x.sizes(), x.options());
  if (out.numel() == 0) return out;
  RotaryRaw params;
  params.x = source.const_data_ptr();
  params.cos = cos.const_data_ptr();
  params.sin = sin.const_data_ptr();
  params.out = out.mutable_data_ptr();
  params.tokens = x.size(0);
  params.heads = x.size(1);
  params.half = x.size(2) / 2;
  params.token_stride = source.stride(0);
  params.head_stride = source.stride(1);
  params.inverse = inverse;
  params.type = element_type(x);
  params.stream = cuda->use_device(x.device().index());
  cuda->rotary(params);
  return out;
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
                   cos.sizes() == sin.sizes() && cos.scalar_type() == x.scalar_type() && cos.is_contiguous() &&
                   sin.scalar_type() == x.scalar_type() && sin.is_contiguous(),
               "rotary takes x [N, H, D] and contiguous angles [N, D / 2] of one dtype");
  return at::GradMode::is_enabled() && x.requires_grad() ? RotaryFunction::apply(x, cos, sin)
                                                         : rotate(x, cos, sin, false);
}

}  // namespace plural::kernels
