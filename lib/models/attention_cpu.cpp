// SPDX-License-Identifier: Apache-2.0
// Attention over a packed batch from LibTorch's CPU flash kernels. A softmax over two sets of keys is the two
// softmaxes weighted by their shares of the exponential sums; and the flash backward of each set, given the *joint*
// output and log-sum, is that set's exact share of the gradient. So the prompt of a group is read where it is.
#include <ATen/ATen.h>
#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/custom_function.h>

#include <cmath>

#include "lib/kernels/cpu_simd.h"
#include "lib/models/attention.h"

namespace plural::detail {
namespace {

namespace autograd = torch::autograd;

/// [rows, T, H, D] -> the [rows, H, T, D] view that the flash kernels take.
Tensor heads_first(const Tensor& x) { return x.transpose(1, 2); }

struct Attended {
  Tensor out;      // [G, T, H, D]
  Tensor log_sum;  // [G, T, H] float32 (float64), natural log of the sum of exp(scale * q.k)
};

Attended attend(const Tensor& q, const Tensor& k, const Tensor& v, bool causal, double scale) {
  const auto [out, log_sum] = at::_scaled_dot_product_flash_attention_for_cpu(
      heads_first(q), heads_first(k), heads_first(v), /*dropout_p=*/0.0, causal, std::nullopt, scale);
  return {out.transpose(1, 2).contiguous(), log_sum.transpose(1, 2).contiguous()};
}

template <class scalar_t, class compute_t>
PLURAL_ALWAYS_INLINE void mix_body(scalar_t* into, const scalar_t* other, int64_t size, compute_t share) {
#pragma omp simd
  for (int64_t j = 0; j < size; ++j)
    kernels::store(into[j], kernels::load(into[j]) * (1 - share) + kernels::load(other[j]) * share);
}
PLURAL_CPU_CLONES void mix(at::BFloat16* into, const at::BFloat16* other, int64_t size, float share) {
  mix_body(into, other, size, share);
}
PLURAL_CPU_CLONES void mix(float* into, const float* other, int64_t size, float share) {
  mix_body(into, other, size, share);
}
void mix(double* into, const double* other, int64_t size, double share) { mix_body(into, other, size, share); }

/// Joins what queries got from two sets of keys, into the first.
void join_(Attended& own, const Attended& chain) {
  const int64_t count = own.log_sum.numel(), size = own.out.size(-1);
  AT_DISPATCH_FLOATING_TYPES_AND(at::kBFloat16, own.out.scalar_type(), "join_attention", [&] {
    using compute_t = std::conditional_t<std::is_same_v<scalar_t, double>, double, float>;
    scalar_t* into = own.out.data_ptr<scalar_t>();
    const scalar_t* other = chain.out.const_data_ptr<scalar_t>();
    compute_t* sums = own.log_sum.data_ptr<compute_t>();
    const compute_t* other_sums = chain.log_sum.const_data_ptr<compute_t>();
    at::parallel_for(0, count, 512, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const compute_t share = 1 / (1 + std::exp(sums[i] - other_sums[i]));  // of the chain
        mix(into + i * size, other + i * size, size, share);
        const compute_t high = std::max(sums[i], other_sums[i]), low = std::min(sums[i], other_sums[i]);
        sums[i] = high + std::log1p(std::exp(low - high));
      }
    });
  });
}

/// Views and copies of one batch's tensors by group.
class Grouped {
 public:
  explicit Grouped(const AttentionPlan& plan) : plan_(plan) {}

  /// The group's rows of x [N, H, D], padded: [G, T, H, D].
  Tensor rows(const Tensor& x, const AttentionGroup& group) const {
    const Tensor index = plan_.gather.narrow(0, group.first_place, group.rows * group.length);
    return x.index_select(0, index).unflatten(0, {group.rows, group.length});
  }
  /// The chain's tokens of x [N, H, D]: [1, S, H, D]; a view when the chain is one segment.
  Tensor chain(const Tensor& x, const AttentionGroup& group) const {
    std::vector<Tensor> parts;
    for (const int64_t segment : group.chain) parts.push_back(part(x, segment));
    return (parts.size() == 1 ? parts[0] : at::cat(parts)).unsqueeze(0);
  }
  /// Adds grad [1, S, H, D] to the chain's tokens of sum [N, H, D].
  void add_to_chain_(const Tensor& sum, const Tensor& grad, const AttentionGroup& group) const {
    int64_t begin = 0;
    for (const int64_t segment : group.chain) {
      const int64_t length = plan_.segment_lengths[segment];
      part(sum, segment).add_(grad[0].narrow(0, begin, length));
      begin += length;
    }
  }

 private:
  Tensor part(const Tensor& x, int64_t segment) const {
    return x.narrow(0, plan_.segment_begins[segment], plan_.segment_lengths[segment]);
  }
  const AttentionPlan& plan_;
};

/// Lets the plan travel through autograd's saved data.
struct PlanHolder : torch::CustomClassHolder {
  explicit PlanHolder(AttentionPlanPtr held) : plan(std::move(held)) {}
  AttentionPlanPtr plan;
};

Tensor one_row(const Tensor& x) { return x.flatten(0, 1).unsqueeze(0); }  // [G, T, ..] -> [1, G * T, ..]

struct PackedAttended {
  Tensor out;      // [N, H, D]
  Tensor log_sum;  // [P, H], by padded place
};

PackedAttended attend_packed(const Tensor& q, const Tensor& k, const Tensor& v, const AttentionPlan& plan) {
  const Grouped grouped(plan);
  const double scale = 1.0 / std::sqrt(static_cast<double>(q.size(2)));
  const Tensor keys = repeat_heads(k, q.size(1)), values = repeat_heads(v, q.size(1));
  std::vector<Tensor> outputs, log_sums;
  for (const AttentionGroup& group : plan.groups) {
    const Tensor queries = grouped.rows(q, group);
    Attended result = attend(queries, grouped.rows(keys, group), grouped.rows(values, group), true, scale);
    if (!group.chain.empty())
      join_(result, attend(one_row(queries), grouped.chain(keys, group), grouped.chain(values, group), false, scale));
    outputs.push_back(result.out.flatten(0, 1));
    log_sums.push_back(result.log_sum.flatten(0, 1));
  }
  return {at::cat(outputs).index_select(0, plan.place), at::cat(log_sums)};
}

struct AttentionGradient {
  Tensor q, k, v;
};

/// One set of keys' share of the gradient; all tensors [rows, T, H, D], log_sum [rows, T, H].
AttentionGradient attend_backward(const Tensor& grad, const Tensor& q, const Tensor& k, const Tensor& v,
                                  const Tensor& out, const Tensor& log_sum, bool causal, double scale) {
  const auto [grad_q, grad_k, grad_v] = at::_scaled_dot_product_flash_attention_for_cpu_backward(
      heads_first(grad), heads_first(q), heads_first(k), heads_first(v), heads_first(out), heads_first(log_sum),
      /*dropout_p=*/0.0, causal, std::nullopt, scale);
  return {heads_first(grad_q), heads_first(grad_k), heads_first(grad_v)};
}

/// [N, H, D] -> [N, Hkv, D]: sums the query heads that read one key head.
Tensor sum_heads(const Tensor& x, int64_t kv_heads) {
  return x.size(1) == kv_heads ? x : x.unflatten(1, {kv_heads, x.size(1) / kv_heads}).sum(2);
}

class PackedAttention : public autograd::Function<PackedAttention> {
 public:
  static Tensor forward(autograd::AutogradContext* context, const Tensor& q, const Tensor& k, const Tensor& v,
                        const AttentionPlanPtr& plan) {
    const at::NoGradGuard no_grad;
    const PackedAttended result = attend_packed(q, k, v, *plan);
    context->save_for_backward({q, k, v, result.out, result.log_sum});
    context->saved_data["plan"] = c10::IValue::make_capsule(c10::make_intrusive<PlanHolder>(plan));
    return result.out;
  }

  static autograd::variable_list backward(autograd::AutogradContext* context, autograd::variable_list grads) {
    const auto saved = context->get_saved_variables();
    const Tensor &q = saved[0], &k = saved[1], &v = saved[2], &out = saved[3], &log_sum = saved[4];
    const auto holder = context->saved_data["plan"].toCapsule();
    const AttentionPlan& plan = *static_cast<const PlanHolder&>(*holder).plan;
    const Grouped grouped(plan);
    const double scale = 1.0 / std::sqrt(static_cast<double>(q.size(2)));
    const Tensor keys = repeat_heads(k, q.size(1)), values = repeat_heads(v, q.size(1)),
                 upstream = grads[0].contiguous();

    // The segments' shares come out padded, the chains' shares are added to the packed tokens.
    std::vector<Tensor> padded_q, padded_k, padded_v;
    std::vector<AttentionGradient> of_chains;
    for (const AttentionGroup& group : plan.groups) {
      const Tensor queries = grouped.rows(q, group), outputs = grouped.rows(out, group);
      const int64_t places = group.rows * group.length;
      const Tensor sums = log_sum.narrow(0, group.first_place, places).unflatten(0, {group.rows, group.length});
      // Padding asks for nothing: with a zero gradient it leaves no trace in the keys'.
      const Tensor grad = grouped.rows(upstream, group) *
                          plan.is_token.narrow(0, group.first_place, places).view({group.rows, group.length, 1, 1});
      AttentionGradient own = attend_backward(grad, queries, grouped.rows(keys, group), grouped.rows(values, group),
                                              outputs, sums, true, scale);
      Tensor grad_q = own.q.flatten(0, 1);
      if (!group.chain.empty()) {
        AttentionGradient chain = attend_backward(one_row(grad), one_row(queries), grouped.chain(keys, group),
                                                  grouped.chain(values, group), one_row(outputs), one_row(sums), false,
                                                  scale);
        grad_q = grad_q + chain.q[0];
        of_chains.push_back(std::move(chain));
      }
      padded_q.push_back(grad_q);
      padded_k.push_back(own.k.flatten(0, 1));
      padded_v.push_back(own.v.flatten(0, 1));
    }
    const auto packed = [&](const std::vector<Tensor>& parts) { return at::cat(parts).index_select(0, plan.place); };
    const Tensor grad_k = packed(padded_k), grad_v = packed(padded_v);
    size_t next = 0;
    for (const AttentionGroup& group : plan.groups) {
      if (group.chain.empty()) continue;
      grouped.add_to_chain_(grad_k, of_chains[next].k, group);
      grouped.add_to_chain_(grad_v, of_chains[next].v, group);
      ++next;
    }
    return {packed(padded_q), sum_heads(grad_k, k.size(1)), sum_heads(grad_v, v.size(1)), Tensor()};
  }
};

}  // namespace

Tensor packed_attention_cpu(const Tensor& q, const Tensor& k, const Tensor& v, const AttentionPlanPtr& plan) {
  const bool records = at::GradMode::is_enabled() && (q.requires_grad() || k.requires_grad() || v.requires_grad());
  return records ? PackedAttention::apply(q, k, v, plan) : attend_packed(q, k, v, *plan).out;
}

}  // namespace plural::detail
