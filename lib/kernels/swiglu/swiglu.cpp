// SPDX-License-Identifier: Apache-2.0
#include "lib/kernels/swiglu/swiglu.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/custom_function.h>

#include "lib/kernels/dispatch.h"
#include "lib/kernels/element_type.h"
#include "lib/kernels/swiglu/swiglu_raw.h"
#include "plural/error.h"

namespace plural::kernels {
namespace {

namespace autograd = torch::autograd;

Tensor dense_rows(const Tensor& x) { return x.stride(1) == 1 ? x : x.contiguous(); }

/// What the two CUDA kernels read.
SwigluRaw raw_of(const CudaKernels& cuda, const Tensor& gate, const Tensor& up) {
  SwigluRaw params;
  params.gate = gate.const_data_ptr();
  params.up = up.const_data_ptr();
  params.rows = gate.size(0);
  params.size = gate.size(1);
  params.gate_stride = gate.stride(0);
  params.up_stride = up.stride(0);
  params.type = element_type(gate);
  params.stream = cuda.use_device(gate.device().index());
  return params;
}

Tensor activate(const Tensor& gate, const Tensor& up) {
  const CudaKernels* cuda = cuda_kernels_for(gate);
  if (cuda == nullptr) return detail::swiglu_cpu(gate, up);
  Tensor out = at::empty(gate.sizes(), gate.options());
  if (out.numel() == 0) return out;
  SwigluRaw params = raw_of(*cuda, gate, up);
  params.out = out.mutable_data_ptr();
  cuda->swiglu(params);
  return out;
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
    const Tensor grad = grads[0].contiguous();
    Tensor grad_gate = at::empty(gate.sizes(), gate.options()), grad_up = at::empty(up.sizes(), up.options());
    const CudaKernels* cuda = cuda_kernels_for(gate);
    if (cuda == nullptr) {
      detail::swiglu_backward_cpu(grad, gate, up, grad_gate, grad_up);
    } else if (gate.numel() > 0) {
      SwigluRaw params = raw_of(*cuda, gate, up);
      params.grad = grad.const_data_ptr();
      params.grad_gate = grad_gate.mutable_data_ptr();
      params.grad_up = grad_up.mutable_data_ptr();
      cuda->swiglu_backward(params);
    }
    return {grad_gate, grad_up};
  }
};

}  // namespace

Tensor swiglu(const Tensor& gate, const Tensor& up) {
  PLURAL_CHECK(gate.dim() == 2 && gate.sizes() == up.sizes() && gate.scalar_type() == up.scalar_type(),
               "swiglu takes gate and up [N, F] of one dtype");
  const Tensor g = dense_rows(gate), u = dense_rows(up);  // what both twins take
  const bool records = at::GradMode::is_enabled() && (gate.requires_grad() || up.requires_grad());
  return records ? SwigluFunction::apply(g, u) : activate(g, u);
}

}  // namespace plural::kernels
