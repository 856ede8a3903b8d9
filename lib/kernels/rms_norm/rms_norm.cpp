// SPDX-License-Identifier: Apache-2.0
#include "lib/kernels/rms_norm/rms_norm.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>

#include "lib/kernels/dispatch.h"
#include "lib/kernels/element_type.h"
#include "lib/kernels/rms_norm/rms_norm_raw.h"
#include "plural/error.h"

namespace plural::kernels {
namespace {

namespace autograd = torch::autograd;

/// Blocks that sum up the weight's gradient on a GPU: some for each of its processors.
constexpr int64_t kWeightParts = 512;

struct Normalised {
  Tensor sum, out, scale;  // [rows, E], [rows, E], [rows]; sum is x where nothing is added
};

Normalised normalise(const Tensor& x, const Tensor& update, const Tensor& weight, double eps) {
  const auto wide = stream_type(weight.scalar_type());
  const CudaKernels* cuda = cuda_kernels_for(x);
  if (cuda == nullptr) {
    detail::RmsNormParams params{x, update, weight, eps, {}, {}, {}};
    params.sum = update.defined() ? at::empty_like(x) : x;
    params.out = at::empty(x.sizes(), weight.options());
    params.scale = at::empty({x.size(0)}, x.options().dtype(wide));
    detail::rms_norm_cpu(params);
    return {params.sum, params.out, params.scale};
  }
  Normalised result{update.defined() ? at::empty_like(x) : x, at::empty(x.sizes(), weight.options()),
                    at::empty({x.size(0)}, x.options().dtype(wide))};
  if (x.numel() == 0) return result;
  RmsNormRaw params;
  params.x = x.const_data_ptr();
  params.update = update.defined() ? update.const_data_ptr() : nullptr;
  params.weight = weight.const_data_ptr();
  params.sum = update.defined() ? result.sum.mutable_data_ptr() : nullptr;
  params.out = result.out.mutable_data_ptr();
  params.scale = result.scale.mutable_data_ptr();
  params.rows = x.size(0);
  params.size = x.size(1);
  params.eps = eps;
  params.x_type = element_type(x);
  params.weight_type = element_type(weight);
  params.stream = cuda->use_device(x.device().index());
  cuda->rms_norm(params);
  return result;
}

struct NormGradient {
  Tensor x, update, weight;
};

NormGradient differentiate(const Tensor& grad, const Tensor& grad_sum, const Tensor& x, const Tensor& weight,
                           const Tensor& scale, bool has_update) {
  NormGradient result;
  const CudaKernels* cuda = cuda_kernels_for(x);
  if (cuda == nullptr) {
    detail::RmsNormBackwardParams params{grad, grad_sum, x, weight, scale, {}, {}, {}};
    params.grad_x = at::empty_like(x);
    if (has_update) params.grad_update = at::empty(x.sizes(), weight.options());
    params.grad_weight = at::empty(weight.sizes(), scale.options());
    detail::rms_norm_backward_cpu(params);
    result = {params.grad_x, params.grad_update, params.grad_weight};
  } else {
    const int64_t parts = std::min(x.size(0), kWeightParts);
    result.x = at::empty_like(x);
    if (has_update) result.update = at::empty(x.sizes(), weight.options());
    const Tensor weight_parts = at::empty({parts, x.size(1)}, scale.options());
    if (parts > 0) {
      RmsNormBackwardRaw params;
      params.grad = grad.const_data_ptr();
      params.grad_sum = grad_sum.defined() ? grad_sum.const_data_ptr() : nullptr;
      params.x = x.const_data_ptr();
      params.weight = weight.const_data_ptr();
      params.scale = scale.const_data_ptr();
      params.grad_x = result.x.mutable_data_ptr();
      params.grad_update = has_update ? result.update.mutable_data_ptr() : nullptr;
      params.weight_parts = weight_parts.mutable_data_ptr();
      params.rows = x.size(0);
      params.size = x.size(1);
      params.parts = parts;
      params.x_type = element_type(x);
      params.weight_type = element_type(weight);
      params.stream = cuda->use_device(x.device().index());
      cuda->rms_norm_backward(params);
    }
    result.weight = weight_parts.sum(0);
  }
  result.weight = result.weight.to(weight.scalar_type());
  return result;
}

class RmsNorm : public autograd::Function<RmsNorm> {
 public:
  static Tensor forward(autograd::AutogradContext* context, const Tensor& x, const Tensor& weight, double eps) {
    const at::NoGradGuard no_grad;
    const Normalised result = normalise(x, {}, weight, eps);
    context->save_for_backward({x, weight, result.scale});
    return result.out;
  }

  static autograd::variable_list backward(autograd::AutogradContext* context, autograd::variable_list grads) {
    const auto saved = context->get_saved_variables();
    const NormGradient of = differentiate(grads[0].contiguous(), {}, saved[0], saved[1], saved[2], false);
    return {of.x, of.weight, Tensor()};
  }
};

class AddRmsNorm : public autograd::Function<AddRmsNorm> {
 public:
  static autograd::variable_list forward(autograd::AutogradContext* context, const Tensor& stream, const Tensor& update,
                                         const Tensor& weight, double eps) {
    const at::NoGradGuard no_grad;
    const Normalised result = normalise(stream, update, weight, eps);
    context->save_for_backward({result.sum, weight, result.scale});
    context->set_materialize_grads(false);
    return {result.sum, result.out};
  }

  static autograd::variable_list backward(autograd::AutogradContext* context, autograd::variable_list grads) {
    const auto saved = context->get_saved_variables();
    const Tensor &sum = saved[0], &weight = saved[1], &scale = saved[2];
    if (!grads[1].defined())  // only the sum was used
      return {grads[0], grads[0].defined() ? grads[0].to(weight.scalar_type()) : Tensor(), Tensor(), Tensor()};
    const Tensor grad_sum = grads[0].defined() ? grads[0].contiguous() : Tensor();
    const NormGradient of = differentiate(grads[1].contiguous(), grad_sum, sum, weight, scale, true);
    return {of.x, of.update, of.weight, Tensor()};
  }
};

bool records(const Tensor& x) { return x.defined() && x.requires_grad(); }

}  // namespace

at::ScalarType stream_type(at::ScalarType weights) { return weights == at::kDouble ? at::kDouble : at::kFloat; }

Tensor rms_norm(const Tensor& x, const Tensor& weight, double eps) {
  PLURAL_CHECK(x.dim() >= 1 && weight.dim() == 1 && x.size(-1) == weight.size(0) &&
                   (x.scalar_type() == weight.scalar_type() || x.scalar_type() == stream_type(weight.scalar_type())),
               "rms_norm takes x [..., E] and weight [E] of one dtype");
  const Tensor rows = x.reshape({-1, x.size(-1)}).contiguous();
  // Without a graph to record, the autograd wrapper is only overhead.
  const bool graph = at::GradMode::is_enabled() && (records(x) || records(weight));
  const Tensor out = graph ? RmsNorm::apply(rows, weight, eps) : normalise(rows, {}, weight, eps).out;
  return out.view(x.sizes());
}

StreamNorm add_rms_norm(const Tensor& stream, const Tensor& update, const Tensor& weight, double eps) {
  PLURAL_CHECK(stream.scalar_type() == stream_type(weight.scalar_type()), "the residual stream is float32 (float64)");
  if (!update.defined()) return {stream, rms_norm(stream, weight, eps)};
  check_shapes({{"stream", stream, "N E"}, {"update", update, "N E"}, {"weight", weight, "E"}});
  PLURAL_CHECK(update.scalar_type() == weight.scalar_type(), "an update has the dtype of the weights");
  const Tensor rows = stream.contiguous(), added = update.contiguous();
  if (at::GradMode::is_enabled() && (records(stream) || records(update) || records(weight))) {
    const auto outputs = AddRmsNorm::apply(rows, added, weight, eps);
    return {outputs[0], outputs[1]};
  }
  const Normalised result = normalise(rows, added, weight, eps);
  return {result.sum, result.out};
}

}  // namespace plural::kernels
