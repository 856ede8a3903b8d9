// SPDX-License-Identifier: Apache-2.0
// Attention of a device against scaled_dot_product_attention over padded groups in float64 on the CPU: values and
// gradients. On the CPU that is its kernel, elsewhere the same composition in the device's own arithmetic.
#include <array>

#include "lib/kernels/sum_copies/sum_copies.h"
#include "lib/models/attention.h"
#include "tests/models/models_support.h"

namespace plural {
namespace {

using testing::max_difference;

/// A lone segment, a chain of three with two leaves, a long one with short and long children: more than one block of
/// queries, lengths on both sides of a vector's.
const std::vector<Segment> kSegments = {{0, 5, -1},   {5, 37, -1}, {42, 3, 1},  {45, 17, 2}, {62, 1, 2},
                                        {63, 16, -1}, {79, 33, 5}, {112, 2, 5}, {114, 15, 5}};
constexpr int64_t kTokens = 129;

using Attend = Tensor (*)(const Tensor&, const Tensor&, const Tensor&, const AttentionPlanPtr&, int64_t);

struct Outcome {
  Tensor out, q, k, v;
};

Outcome run(Attend attend, const std::array<Tensor, 3>& inputs, at::ScalarType dtype, int64_t window,
            at::Device device) {
  std::array<Tensor, 3> x;
  for (size_t i = 0; i < x.size(); ++i)
    x[i] = inputs[i].to(at::kBFloat16).to(device, dtype, false, /*copy=*/true).requires_grad_(true);
  const Tensor out = attend(x[0], x[1], x[2], plan_attention(kSegments, kTokens, device), window);
  out.backward(at::sin(at::arange(out.numel(), at::kDouble)).view(out.sizes()).to(device, dtype));
  return {out.detach(), x[0].grad(), x[1].grad(), x[2].grad()};
}

}  // namespace

TEST_CASE("Attention equals composed attention in float64") {
  at::manual_seed(41);
  for (const auto& [heads, kv_heads, size] : std::vector<std::array<int64_t, 3>>{{9, 3, 64}, {2, 2, 5}, {4, 1, 16}}) {
    const std::array<Tensor, 3> inputs = {at::randn({kTokens, heads, size}), at::randn({kTokens, kv_heads, size}),
                                          at::randn({kTokens, kv_heads, size})};
    for (const int64_t window : {0, 4, 40}) {
      INFO(heads << " heads on " << kv_heads << ", size " << size << ", window " << window);
      const Outcome expected = run(detail::packed_attention_composed, inputs, at::kDouble, window, at::kCPU);
      for (const auto& [dtype, limit] :
           {std::pair{at::kDouble, 1e-12}, std::pair{at::kFloat, 2e-5}, std::pair{at::kBFloat16, 0.04}}) {
        INFO(at::toString(dtype));
        const Outcome found = run(packed_attention, inputs, dtype, window, test_device());
        CHECK(max_difference(found.out, expected.out) <= limit);
        CHECK(max_difference(found.q, expected.q) <= limit);
        CHECK(max_difference(found.k, expected.k) <= limit);
        CHECK(max_difference(found.v, expected.v) <= limit);
        // Without a graph the same values, and the same again: no order of threads shows. A GPU may choose another of
        // its attention kernels where there is no graph.
        const at::NoGradGuard no_grad;
        std::array<Tensor, 3> x;
        for (size_t i = 0; i < x.size(); ++i) x[i] = inputs[i].to(at::kBFloat16).to(test_device(), dtype);
        const AttentionPlanPtr plan = plan_attention(kSegments, kTokens, test_device());
        CHECK(max_difference(packed_attention(x[0], x[1], x[2], plan, window), found.out) <=
              (test_device().is_cpu() ? 0.0 : limit));
      }
    }
  }
}

TEST_CASE("The plan of flash attention: sequence by sequence its definition is packed attention", "[host]") {
  at::manual_seed(42);
  const AttentionPlanPtr plan = plan_attention(kSegments, kTokens, at::kCPU);
  const FlashPlan flash = detail::plan_flash(plan->layout, kTokens, at::kCPU);
  const auto host = [](const Tensor& x) {
    const Tensor longs = x.to(at::kLong).contiguous();
    return std::vector<int64_t>(longs.const_data_ptr<int64_t>(), longs.const_data_ptr<int64_t>() + longs.numel());
  };
  const std::vector<int64_t> query_begin = host(flash.query_begin), key_begin = host(flash.key_begin);
  REQUIRE(query_begin.size() == kSegments.size() + 1);
  CHECK(flash.longest_query == 37);
  CHECK(flash.longest_key == 37 + 3 + 17);
  const Tensor q = at::randn({kTokens, 4, 8}, at::kDouble), k = at::randn({kTokens, 2, 8}, at::kDouble),
               v = at::randn({kTokens, 2, 8}, at::kDouble);
  for (const int64_t window : {0, 4}) {
    std::vector<Tensor> parts;
    for (size_t s = 0; s < kSegments.size(); ++s) {
      const int64_t queries = query_begin[s + 1] - query_begin[s], keys = key_begin[s + 1] - key_begin[s];
      const auto heads_first = [&](const Tensor& x) { return detail::repeat_heads(x, 4).transpose(0, 1); };
      const Tensor of = flash.keys.narrow(0, key_begin[s], keys);
      const Tensor place = at::arange(keys - queries, keys).unsqueeze(1), key = at::arange(keys).unsqueeze(0);
      Tensor seen = key <= place;  // the last query sees every key
      if (window > 0) seen = seen.logical_and(key > place - window);
      parts.push_back(at::scaled_dot_product_attention(heads_first(q.narrow(0, query_begin[s], queries)),
                                                       heads_first(k.index_select(0, of)),
                                                       heads_first(v.index_select(0, of)), seen)
                          .transpose(0, 1));
    }
    CHECK(max_difference(at::cat(parts), packed_attention(q, k, v, plan, window)) <= 1e-12);
  }
  // The gradient of the copies goes back to the tokens that they are copies of.
  const Tensor copies = at::randn({flash.keys.numel(), 3}, at::kDouble);
  CHECK(max_difference(kernels::sum_copies(copies, flash.copy_begin, flash.copies),
                       at::zeros({kTokens, 3}, at::kDouble).index_add(0, flash.keys, copies)) <= 1e-12);
  // Without chains nothing is copied.
  CHECK_FALSE(
      detail::plan_flash(plan_attention({{0, 3, -1}, {3, 2, -1}}, 5, at::kCPU)->layout, 5, at::kCPU).keys.defined());
}

}  // namespace plural
