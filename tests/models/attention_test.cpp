// SPDX-License-Identifier: Apache-2.0
// Attention of a device against scaled_dot_product_attention over padded groups in float64 on the CPU: values and
// gradients. On the CPU that is its kernel, elsewhere the same composition in the device's own arithmetic.
#include <array>

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

}  // namespace plural
