// SPDX-License-Identifier: Apache-2.0
// Attention over a packed batch on the CPU: kernels/segment_attention with its place in the graph.
#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/custom_function.h>

#include <cmath>

#include "lib/kernels/element_type.h"
#include "lib/models/attention.h"

namespace plural::detail {
namespace {

namespace autograd = torch::autograd;

/// Lets the plan travel through autograd's saved data.
struct PlanHolder : torch::CustomClassHolder {
  PlanHolder(AttentionPlanPtr held, int64_t window) : plan(std::move(held)), window(window) {}
  AttentionPlanPtr plan;
  int64_t window;
};

/// The tensors must outlive the parameters.
kernels::SegmentAttentionParams parameters(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& out,
                                           const Tensor& log_sum, const PlanHolder& of) {
  kernels::SegmentAttentionParams params;
  params.layout = &of.plan->layout;
  params.type = kernels::element_type(q);
  params.heads = q.size(1);
  params.kv_heads = k.size(1);
  params.head_size = q.size(2);
  params.window = of.window;
  params.scale = 1.0 / std::sqrt(static_cast<double>(q.size(2)));
  params.query = q.const_data_ptr();
  params.key = k.const_data_ptr();
  params.value = v.const_data_ptr();
  params.out = out.data_ptr();
  params.log_sum = log_sum.data_ptr();
  return params;
}

struct Attended {
  Tensor out;      // [N, H, D]
  Tensor log_sum;  // [N, H] float32 (float64)
};

Attended attend(const Tensor& q, const Tensor& k, const Tensor& v, const PlanHolder& of) {
  const auto wide = q.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  Attended result{at::empty_like(q), at::empty({q.size(0), q.size(1)}, q.options().dtype(wide))};
  kernels::segment_attention_cpu(parameters(q, k, v, result.out, result.log_sum, of));
  return result;
}

class PackedAttention : public autograd::Function<PackedAttention> {
 public:
  static Tensor forward(autograd::AutogradContext* context, const Tensor& q, const Tensor& k, const Tensor& v,
                        const AttentionPlanPtr& plan, int64_t window) {
    const at::NoGradGuard no_grad;
    const auto of = c10::make_intrusive<PlanHolder>(plan, window);
    const Attended result = attend(q, k, v, *of);
    context->save_for_backward({q, k, v, result.out, result.log_sum});
    context->saved_data["plan"] = c10::IValue::make_capsule(of);
    return result.out;
  }

  static autograd::variable_list backward(autograd::AutogradContext* context, autograd::variable_list grads) {
    const auto saved = context->get_saved_variables();
    const auto holder = context->saved_data["plan"].toCapsule();
    const Tensor &q = saved[0], &k = saved[1], &v = saved[2], upstream = grads[0].contiguous();
    const Tensor grad_q = at::empty_like(q), grad_k = at::empty_like(k), grad_v = at::empty_like(v);
    kernels::SegmentAttentionParams params = parameters(q, k, v, saved[3], saved[4],
                                                        static_cast<const PlanHolder&>(*holder));
    params.grad_out = upstream.const_data_ptr();
    params.grad_query = grad_q.data_ptr();
    params.grad_key = grad_k.data_ptr();
    params.grad_value = grad_v.data_ptr();
    kernels::segment_attention_backward_cpu(params);
    return {grad_q, grad_k, grad_v, Tensor(), Tensor()};
  }
};

}  // namespace

Tensor packed_attention_cpu(const Tensor& q, const Tensor& k, const Tensor& v, const AttentionPlanPtr& plan,
                            int64_t window) {
  const bool records = at::GradMode::is_enabled() && (q.requires_grad() || k.requires_grad() || v.requires_grad());
  const Tensor dense_q = q.contiguous(), dense_k = k.contiguous(), dense_v = v.contiguous();
  return records ? PackedAttention::apply(dense_q, dense_k, dense_v, plan, window)
                 : attend(dense_q, dense_k, dense_v, PlanHolder(plan, window)).out;
}

}  // namespace plural::detail
