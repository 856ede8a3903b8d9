// SPDX-License-Identifier: Apache-2.0
// RMS norm, rotary positions and SwiGLU against composed ATen operations: values and gradients, per dtype.
#include <array>
#include <functional>

#include "lib/kernels/rms_norm/rms_norm.h"
#include "lib/kernels/rotary/rotary.h"
#include "lib/kernels/swiglu/swiglu.h"
#include "tests/models/models_support.h"

namespace plural {
namespace {

using testing::max_difference;

Tensor on_device(const Tensor& x) { return x.to(test_device()); }

Tensor rms_reference(const Tensor& x, const Tensor& weight) {
  return weight * (x / (x.square().mean(-1, true) + 1e-5).sqrt());
}

Tensor rotary_reference(const Tensor& x, const Tensor& cos, const Tensor& sin) {
  const Tensor c = at::cat({cos, cos}, -1).unsqueeze(1), s = at::cat({sin, sin}, -1).unsqueeze(1);
  const auto halves = x.chunk(2, -1);
  return x * c + at::cat({-halves[1], halves[0]}, -1) * s;
}

using Operation = std::function<Tensor(const std::vector<Tensor>&)>;

/// Runs `ours` in each dtype against `reference` in float64 on the same (rounded) inputs.
void compare(const Operation& ours, const Operation& reference, const std::vector<Tensor>& inputs) {
  const std::pair<at::ScalarType, double> dtypes[] = {{at::kDouble, 1e-12}, {at::kFloat, 1e-5}, {at::kBFloat16, 0.03}};
  for (const auto& [dtype, limit] : dtypes) {
    INFO(at::toString(dtype));
    std::vector<Tensor> low, high;
    for (const Tensor& input : inputs) {
      low.push_back(
          input.detach().to(test_device(), dtype, /*non_blocking=*/false, /*copy=*/true).requires_grad_(true));
      high.push_back(low.back().detach().to(at::kDouble).requires_grad_(true));
    }
    const Tensor out = ours(low), expected = reference(high);
    CHECK(out.scalar_type() == dtype);
    CHECK(max_difference(out.detach(), expected.detach()) <= limit * (1 + expected.abs().max().item<double>()));
    const Tensor upstream = at::randn_like(expected).to(dtype);
    out.backward(upstream);
    expected.backward(upstream.to(at::kDouble));
    for (size_t i = 0; i < inputs.size(); ++i) {
      if (!high[i].grad().defined()) continue;  // angles have no gradient
      if (!low[i].grad().defined()) {           // not used: a gradient of zeros
        CHECK(high[i].grad().abs().max().item<double>() == 0);
        continue;
      }
      CHECK(max_difference(low[i].grad(), high[i].grad()) <= limit * (1 + high[i].grad().abs().max().item<double>()));
    }
    // Without a graph the same values come from the shorter path.
    const at::NoGradGuard no_grad;
    CHECK(at::equal(ours(low), out));
  }
}

}  // namespace

TEST_CASE("RMS norm equals its definition") {
  at::manual_seed(31);
  for (const auto& [rows, width] : std::vector<std::pair<int64_t, int64_t>>{{1, 1}, {5, 7}, {130, 33}, {300, 576}}) {
    INFO(rows << " x " << width);
    compare([](const auto& in) { return kernels::rms_norm(in[0], in[1], 1e-5); },
            [](const auto& in) { return rms_reference(in[0], in[1]); },
            {at::randn({rows, width}, at::kDouble) * 3, at::randn({width}, at::kDouble)});
  }
  // Any leading dimensions, as the norm of each head needs.
  const Tensor x = on_device(at::randn({4, 3, 6})), weight = on_device(at::randn({6}));
  CHECK(max_difference(kernels::rms_norm(x, weight, 1e-5), rms_reference(x, weight)) <= 1e-5);
}

TEST_CASE("The residual sum with its norm equals the two apart") {
  at::manual_seed(34);
  for (const auto& [rows, width] : std::vector<std::pair<int64_t, int64_t>>{{1, 1}, {5, 7}, {130, 33}, {300, 576}}) {
    INFO(rows << " x " << width);
    const Tensor stream = at::randn({rows, width}, at::kDouble) * 3, update = at::randn({rows, width}, at::kDouble);
    const Tensor weight = at::randn({width}, at::kDouble);
    // Both results are used, or the sum alone, or the norm alone.
    for (const auto& [of_sum, of_norm] : {std::pair{0.7, 1.0}, {1.0, 0.0}, {0.0, 1.0}}) {
      compare(
          [of_sum = of_sum, of_norm = of_norm](const auto& in) {
            const auto [sum, normal] = kernels::add_rms_norm(in[0].to(kernels::stream_type(in[2].scalar_type())), in[1],
                                                             in[2], 1e-5);
            if (of_norm == 0) return sum.to(in[2].scalar_type());
            return of_sum == 0 ? normal : (of_sum * sum + normal).to(in[2].scalar_type());
          },
          [of_sum = of_sum, of_norm = of_norm](const auto& in) {
            const Tensor sum = in[0] + in[1];
            return of_sum * sum + of_norm * rms_reference(sum, in[2]);
          },
          {stream, update, weight});
    }
  }
  // The stream of a bfloat16 model keeps float32's digits; a sum that bfloat16 would lose stays.
  const Tensor stream = on_device(at::full({1, 4}, 256.0)), update = on_device(at::full({1, 4}, 0.5, at::kBFloat16));
  const Tensor weight = on_device(at::ones({4}, at::kBFloat16));
  CHECK(at::equal(kernels::add_rms_norm(stream, update, weight, 1e-5).stream, on_device(at::full({1, 4}, 256.5))));
}

TEST_CASE("Rotary positions equal rotate_half") {
  at::manual_seed(32);
  for (const auto& [tokens, heads, half] : std::vector<std::array<int64_t, 3>>{{1, 1, 1}, {5, 3, 7}, {130, 9, 32}}) {
    INFO(tokens << " x " << heads << " x " << 2 * half);
    const Tensor angle = at::randn({tokens, half}, at::kDouble) * 5;
    compare([](const auto& in) { return kernels::rotary(in[0], in[1].detach(), in[2].detach()); },
            [](const auto& in) { return rotary_reference(in[0], in[1].detach(), in[2].detach()); },
            {at::randn({tokens, heads, 2 * half}, at::kDouble), angle.cos(), angle.sin()});
  }
  // Rows of a wider tensor, as decode passes them.
  const Tensor wide = on_device(at::randn({5, 40})), angle = on_device(at::randn({5, 4}));
  const Tensor part = wide.narrow(1, 8, 24).unflatten(1, {3, 8});
  CHECK(max_difference(kernels::rotary(part, angle.cos(), angle.sin()),
                       rotary_reference(part, angle.cos(), angle.sin())) <= 1e-6);
}

TEST_CASE("SwiGLU equals silu(gate) * up") {
  at::manual_seed(33);
  for (const auto& [rows, width] : std::vector<std::pair<int64_t, int64_t>>{{1, 1}, {5, 7}, {40, 1536}}) {
    INFO(rows << " x " << width);
    compare([](const auto& in) { return kernels::swiglu(in[0], in[1]); },
            [](const auto& in) { return in[0] / (1 + (-in[0]).exp()) * in[1]; },
            {at::randn({rows, width}, at::kDouble) * 6, at::randn({rows, width}, at::kDouble)});
  }
  // Far out on both sides the gate is 0 or the identity, never NaN.
  const Tensor gate = on_device(at::tensor({-1e4f, -100.0f, 0.0f, 100.0f, 1e4f})).unsqueeze(0);
  CHECK(at::equal(kernels::swiglu(gate, at::ones_like(gate)),
                  on_device(at::tensor({0.0f, 0.0f, 0.0f, 100.0f, 1e4f})).unsqueeze(0)));
}

}  // namespace plural
