// SPDX-License-Identifier: Apache-2.0
// packed_attention on a GPU in bfloat16: ATen's flash attention (Dao 2023, arXiv 2307.08691) over sequences of
// different lengths. A segment is a sequence whose queries are its own tokens and whose keys are its chain's and its
// own; where there are chains their keys are copied to every segment that reads them.
#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include <cmath>
#include <vector>

#include "lib/kernels/sum_copies/sum_copies.h"
#include "lib/models/attention.h"

namespace plural {
namespace {

namespace autograd = torch::autograd;

/// x.index_select(0, keys), whose gradient adds the copies of a token in a fixed order, in float32.
class CopyKeys : public autograd::Function<CopyKeys> {
 public:
  static Tensor forward(autograd::AutogradContext* context, const Tensor& x, const Tensor& keys,
                        const Tensor& copy_begin, const Tensor& copies) {
    context->save_for_backward({copy_begin, copies});
    return x.index_select(0, keys);
  }
  static autograd::variable_list backward(autograd::AutogradContext* context, autograd::variable_list grads) {
    const auto saved = context->get_saved_variables();
    const Tensor sum = kernels::sum_copies(grads[0].flatten(1), saved[0], saved[1]);
    return {sum.view({-1, grads[0].size(1), grads[0].size(2)}), Tensor(), Tensor(), Tensor()};
  }
};

Tensor to_device(const std::vector<int64_t>& values, at::ScalarType type, at::Device device) {
  return at::tensor(values, at::TensorOptions().dtype(at::kLong)).to(type).to(device);
}

}  // namespace

FlashPlan detail::plan_flash(const kernels::AttentionLayout& layout, int64_t tokens, at::Device device) {
  FlashPlan plan;
  std::vector<int64_t> query_begin = {0}, key_begin = {0}, keys, copy_begin(tokens + 1);
  bool has_chains = false;
  for (const kernels::AttentionSegment& segment : layout.segments) {
    std::vector<int64_t> chain = {static_cast<int64_t>(query_begin.size()) - 1};  // from the segment to its root
    while (layout.segments[chain.back()].parent >= 0) chain.push_back(layout.segments[chain.back()].parent);
    has_chains |= chain.size() > 1;
    for (auto s = chain.rbegin(); s != chain.rend(); ++s) {
      const kernels::AttentionSegment& part = layout.segments[*s];
      for (int64_t t = part.begin; t < part.begin + part.length; ++t) {
        keys.push_back(t);
        ++copy_begin[t + 1];
      }
    }
    query_begin.push_back(segment.begin + segment.length);
    key_begin.push_back(static_cast<int64_t>(keys.size()));
    plan.longest_query = std::max(plan.longest_query, segment.length);
    plan.longest_key = std::max(plan.longest_key, segment.prefix + segment.length);
  }
  plan.query_begin = to_device(query_begin, at::kInt, device);
  plan.key_begin = to_device(key_begin, at::kInt, device);
  if (!has_chains) return plan;
  for (int64_t t = 0; t < tokens; ++t) copy_begin[t + 1] += copy_begin[t];
  std::vector<int64_t> next = copy_begin, copies(keys.size());
  for (size_t place = 0; place < keys.size(); ++place) copies[next[keys[place]]++] = static_cast<int64_t>(place);
  plan.keys = to_device(keys, at::kLong, device);
  plan.copy_begin = to_device(copy_begin, at::kLong, device);
  plan.copies = to_device(copies, at::kLong, device);
  return plan;
}

bool detail::flash_can(const Tensor& q) {
  return q.is_cuda() && q.scalar_type() == at::kBFloat16 && q.size(2) % 8 == 0 && q.size(2) <= 256;
}

Tensor detail::packed_attention_flash(const Tensor& q, const Tensor& k, const Tensor& v, const FlashPlan& plan,
                                      int64_t window) {
  const auto all_keys = [&](const Tensor& x) {
    return plan.keys.defined() ? CopyKeys::apply(x, plan.keys, plan.copy_begin, plan.copies) : x.contiguous();
  };
  const double scale = 1.0 / std::sqrt(static_cast<double>(q.size(2)));
  // Causal means that a segment's last query sees all its keys. A window is that with a bound on the other side, too.
  std::optional<int64_t> left, right;
  if (window > 0) left = window - 1, right = 0;  // a token's own place is not counted
  return std::get<0>(at::_flash_attention_forward(q.contiguous(), all_keys(k), all_keys(v), plan.query_begin,
                                                  plan.key_begin, plan.longest_query, plan.longest_key,
                                                  /*dropout_p=*/0.0, /*is_causal=*/window == 0,
                                                  /*return_debug_mask=*/false, scale, left, right));
}

}  // namespace plural
