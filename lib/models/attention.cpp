// SPDX-License-Identifier: Apache-2.0
#include "lib/models/attention.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <map>

#include "lib/core/format.h"
#include "plural/error.h"

namespace plural {
namespace {

namespace autograd = torch::autograd;

Tensor index_tensor(const std::vector<int64_t>& values, at::Device device) {
  return at::tensor(values, at::TensorOptions().dtype(at::kLong)).to(device);
}

/// x.index_select(0, index) where every row is taken at most once, except for padding places, whose rows count for
/// nothing: so the gradient is a gather too (index_select's own backward adds row by row, which is slow).
class GatherRows : public autograd::Function<GatherRows> {
 public:
  /// `inverse` [rows of x]: where each row of x went; `dead` rows of x get no gradient (may be empty).
  static Tensor forward(autograd::AutogradContext* context, const Tensor& x, const Tensor& index, const Tensor& inverse,
                        const Tensor& dead) {
    context->save_for_backward({inverse, dead});
    return x.index_select(0, index);
  }
  static autograd::variable_list backward(autograd::AutogradContext* context, autograd::variable_list grads) {
    const auto saved = context->get_saved_variables();
    Tensor grad = grads[0].index_select(0, saved[0]);
    if (saved[1].numel() > 0) grad.index_fill_(0, saved[1], 0);
    return {grad, Tensor(), Tensor(), Tensor()};
  }
};

/// What one query position may see: 0 or -inf, [T, S + T].
Tensor attention_mask(int64_t prefix, int64_t length, int64_t window, const Tensor& like) {
  const auto options = like.options().dtype(at::kLong);
  const Tensor query = at::arange(prefix, prefix + length, options).unsqueeze(1);
  const Tensor key = at::arange(prefix + length, options).unsqueeze(0);
  Tensor hidden = key > query;
  if (window > 0) hidden = hidden.logical_or(key <= query - window);
  return at::zeros({length, prefix + length}, like.options()).masked_fill_(hidden, -INFINITY);
}

}  // namespace

Tensor detail::repeat_heads(const Tensor& x, int64_t heads) {
  const int64_t kv_heads = x.size(-2);
  if (kv_heads == heads) return x;
  auto shape = x.sizes().vec();
  shape.insert(shape.end() - 1, heads / kv_heads);
  return x.unsqueeze(-2).expand(shape).flatten(-3, -2);
}

AttentionPlanPtr plan_attention(const std::vector<Segment>& segments, int64_t tokens, at::Device device) {
  const auto result = std::make_shared<AttentionPlan>();
  AttentionPlan& plan = *result;
  plan.tokens = tokens;
  const int64_t count = static_cast<int64_t>(segments.size());
  std::vector<int64_t> end_place(count);  // tokens of the chain up to and including the segment
  std::vector<int64_t> tree(count);       // which tree it belongs to
  std::map<int64_t, std::vector<int64_t>> children;
  int64_t covered = 0;
  for (int64_t i = 0; i < count; ++i) {
    const Segment& segment = segments[i];
    PLURAL_CHECK(segment.begin == covered && segment.length > 0 && segment.parent >= -1 && segment.parent < i,
                 fmt::format("segment {} [{}, +{}), parent {}: segments cover the tokens in order (next is {}), are "
                             "not empty, and parents come first",
                             i, segment.begin, segment.length, segment.parent, covered));
    covered += segment.length;
    const int64_t prefix = segment.parent < 0 ? 0 : end_place[segment.parent];
    end_place[i] = segment.length + prefix;
    plan.layout.segments.push_back({segment.begin, segment.length, segment.parent, prefix});
    if (segment.parent < 0) {
      tree[i] = static_cast<int64_t>(plan.layout.trees.size());
      plan.layout.trees.emplace_back();
    } else {
      tree[i] = tree[segment.parent];
    }
    plan.layout.trees[tree[i]].push_back(i);
    plan.longest = std::max(plan.longest, end_place[i]);
    plan.segment_begins.push_back(segment.begin);
    plan.segment_lengths.push_back(segment.length);
    children[segment.parent].push_back(i);
  }
  PLURAL_CHECK(covered == tokens, fmt::format("segments cover {} of {} tokens", covered, tokens));

  std::vector<int64_t> gather, padding, place(tokens);
  for (auto& [parent, members] : children) {
    std::vector<int64_t> chain;
    for (int64_t i = parent; i >= 0; i = segments[i].parent) chain.insert(chain.begin(), i);
    plan.has_prefixes |= !chain.empty();
    std::stable_sort(members.begin(), members.end(),
                     [&](int64_t a, int64_t b) { return segments[a].length > segments[b].length; });
    for (size_t first = 0; first < members.size();) {
      AttentionGroup group{chain, parent < 0 ? 0 : end_place[parent], 0, segments[members[first]].length,
                           static_cast<int64_t>(gather.size())};
      // A new group where padding would more than double a segment's tokens.
      while (first < members.size() && 2 * segments[members[first]].length >= group.length) {
        const Segment& segment = segments[members[first++]];
        ++group.rows;
        for (int64_t t = 0; t < group.length; ++t) {
          const int64_t here = static_cast<int64_t>(gather.size());
          if (t < segment.length)
            place[segment.begin + t] = here;
          else
            padding.push_back(here);
          gather.push_back(t < segment.length ? segment.begin + t : 0);
        }
      }
      plan.groups.push_back(std::move(group));
    }
  }
  if (device.is_cuda()) plan.flash = detail::plan_flash(plan.layout, tokens, device);
  plan.gather = index_tensor(gather, device);
  plan.padding = index_tensor(padding, device);
  plan.place = index_tensor(place, device);
  return result;
}

Tensor packed_attention(const Tensor& q, const Tensor& k, const Tensor& v, const AttentionPlanPtr& plan,
                        int64_t window) {
  if (q.is_cpu()) return detail::packed_attention_cpu(q, k, v, plan, window);
  if (detail::flash_can(q)) return detail::packed_attention_flash(q, k, v, plan->flash, window);
  return detail::packed_attention_composed(q, k, v, plan, window);
}

Tensor detail::packed_attention_composed(const Tensor& q, const Tensor& k, const Tensor& v,
                                         const AttentionPlanPtr& shared_plan, int64_t window) {
  const AttentionPlan& plan = *shared_plan;
  const int64_t heads = q.size(1);
  const double scale = 1.0 / std::sqrt(static_cast<double>(q.size(2)));
  std::vector<int64_t> sizes;
  for (const AttentionGroup& group : plan.groups) sizes.push_back(group.rows * group.length);
  const Tensor none = plan.padding.narrow(0, 0, 0);
  const auto padded = [&](const Tensor& x) {
    return GatherRows::apply(x, plan.gather, plan.place, none).split_with_sizes(sizes);
  };
  const std::vector<Tensor> queries = padded(q), keys = padded(k), values = padded(v);
  std::vector<Tensor> segment_keys, segment_values;
  if (plan.has_prefixes) {
    segment_keys = k.split_with_sizes(plan.segment_lengths);
    segment_values = v.split_with_sizes(plan.segment_lengths);
  }

  std::vector<Tensor> outputs;
  for (size_t i = 0; i < plan.groups.size(); ++i) {
    const AttentionGroup& group = plan.groups[i];
    // [G, T, heads, D], after the chain's keys where there is one: [G, S + T, heads, D].
    const auto rows = [&](const Tensor& x) { return x.unflatten(0, {group.rows, group.length}); };
    const auto with_prefix = [&](const Tensor& own, const std::vector<Tensor>& of_segments) {
      if (group.chain.empty()) return detail::repeat_heads(rows(own), heads).transpose(1, 2);
      std::vector<Tensor> parts;
      for (const int64_t segment : group.chain)
        parts.push_back(of_segments[segment].unsqueeze(0).expand({group.rows, -1, -1, -1}));
      parts.push_back(rows(own));
      return detail::repeat_heads(at::cat(parts, 1), heads).transpose(1, 2);
    };
    const bool slides = window > 0 && group.prefix + group.length > window;
    const bool causal = group.chain.empty() && !slides;
    // Real queries never see padding: it stands after them. Padded queries see real keys; nothing reads them.
    std::optional<Tensor> mask;
    if (!causal) mask = attention_mask(group.prefix, group.length, slides ? window : 0, q);
    const Tensor out = at::scaled_dot_product_attention(
        rows(queries[i]).transpose(1, 2), with_prefix(keys[i], segment_keys), with_prefix(values[i], segment_values),
        mask, /*dropout_p=*/0.0, causal, scale);
    outputs.push_back(out.transpose(1, 2).flatten(0, 1));
  }
  return GatherRows::apply(at::cat(outputs), plan.place, plan.gather, plan.padding);
}

}  // namespace plural
