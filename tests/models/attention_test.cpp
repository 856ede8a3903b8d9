// SPDX-License-Identifier: Apache-2.0
// The CPU's attention kernel against scaled_dot_product_attention over padded groups: values and gradients.
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

Outcome run(Attend attend, const std::array<Tensor, 3>& inputs, at::ScalarType dtype, int64_t window) {
  std::array<Tensor, 3> x;
  for (size_t i = 0; i < x.size(); ++i)
    x[i] = inputs[i].to(at::kBFloat16).to(dtype, false, /*copy=*/true).requires_grad_(true);
  const Tensor out = attend(x[0], x[1], x[2], plan_attention(kSegments, kTokens, at::kCPU), window);
  out.backward(at::sin(at::arange(out.numel(), at::kDouble)).view(out.sizes()).to(dtype));
  return {out.detach(), x[0].grad(), x[1].grad(), x[2].grad()};
}

}  // namespace

TEST_CASE("The attention kernel equals composed attention") {
  at::manual_seed(41);
  for (const auto& [heads, kv_heads, size] : std::vector<std::array<int64_t, 3>>{{9, 3, 64}, {2, 2, 5}, {4, 1, 16}}) {
    const std::array<Tensor, 3> inputs = {at::randn({kTokens, heads, size}), at::randn({kTokens, kv_heads, size}),
                                          at::randn({kTokens, kv_heads, size})};
    for (const int64_t window : {0, 4, 40}) {
      INFO(heads << " heads on " << kv_heads << ", size " << size << ", window " << window);
      const Outcome expected = run(detail::packed_attention_composed, inputs, at::kDouble, window);
      for (const auto& [dtype, limit] :
           {std::pair{at::kDouble, 1e-12}, std::pair{at::kFloat, 2e-5}, std::pair{at::kBFloat16, 0.04}}) {
        INFO(at::toString(dtype));
        const Outcome found = run(detail::packed_attention_cpu, inputs, dtype, window);
        CHECK(max_difference(found.out, expected.out) <= limit);
        CHECK(max_difference(found.q, expected.q) <= limit);
        CHECK(max_difference(found.k, expected.k) <= limit);
        CHECK(max_difference(found.v, expected.v) <= limit);
        // Without a graph the same values, and the same again: no order of threads shows.
        const at::NoGradGuard no_grad;
        std::array<Tensor, 3> x;
        for (size_t i = 0; i < x.size(); ++i) x[i] = inputs[i].to(at::kBFloat16).to(dtype);
        CHECK(at::equal(packed_attention(x[0], x[1], x[2], plan_attention(kSegments, kTokens, at::kCPU), window),
                        found.out));
      }
    }
  }
}

}  // namespace plural
