// SPDX-License-Identifier: Apache-2.0
// The fused head against composed log_softmax: values, gradients by autograd and by finite differences, chunks.
#include "lib/kernels/token_logprob/token_logprob.h"

#include "plural/error.h"
#include "tests/models/models_support.h"

namespace plural {
namespace {

using kernels::token_logprob;
using testing::max_difference;
using testing::relative_difference;

struct Case {
  int64_t rows, width, vocabulary;
  double temperature, spread;
};

// Sizes around vector lanes and blocks; the last one takes several chunks in float64 (64 MiB of logits each).
const Case kCases[] = {{0, 4, 7, 1.0, 1.0},     {1, 1, 1, 1.0, 1.0},      {3, 5, 17, 0.7, 2.0},
                       {7, 16, 1025, 1.3, 4.0}, {33, 8, 2500, 1.0, 30.0}, {300, 3, 60000, 0.9, 3.0}};

struct Inputs {
  Tensor hidden, weight, target, weights;
};

Inputs draw(const Case& c, at::ScalarType dtype) {
  Inputs in;
  const at::Device device = test_device();  // drawn on the CPU: the same numbers on every device
  in.hidden = (at::randn({c.rows, c.width}, at::kDouble) * c.spread).to(device, dtype).requires_grad_(true);
  in.weight = at::randn({c.vocabulary, c.width}, at::kDouble).to(device, dtype).requires_grad_(true);
  in.target = at::randint(c.vocabulary, {c.rows}, at::kLong).to(device);
  in.weights = at::randn({2, c.rows}, dtype == at::kDouble ? at::kDouble : at::kFloat).to(device);
  return in;
}

/// The definition, from ATen's own operations in float64.
kernels::TokenLogprob composed(const Tensor& hidden, const Tensor& weight, const Tensor& target, double temperature) {
  const Tensor log_p = at::log_softmax(at::linear(hidden, weight) / temperature, -1);
  return {log_p.gather(1, target.unsqueeze(1)).squeeze(1), -(log_p.exp() * log_p).sum(-1)};
}

}  // namespace

TEST_CASE("Token log-probs and their gradients equal composed log_softmax in float64") {
  at::manual_seed(21);
  for (const Case& c : kCases) {
    INFO(c.rows << " rows, vocabulary " << c.vocabulary << ", temperature " << c.temperature);
    const Inputs in = draw(c, at::kDouble);
    const auto ours = token_logprob(in.hidden, in.weight, in.target, c.temperature, true);
    const auto theirs = composed(in.hidden, in.weight, in.target, c.temperature);
    CHECK(max_difference(ours.log_prob, theirs.log_prob) <= 1e-10);
    CHECK(max_difference(ours.entropy, theirs.entropy) <= 1e-10);
    ((ours.log_prob * in.weights[0]).sum() + (ours.entropy * in.weights[1]).sum()).backward();
    const Tensor grad_hidden = in.hidden.grad().clone(), grad_weight = in.weight.grad().clone();
    in.hidden.mutable_grad() = Tensor();
    in.weight.mutable_grad() = Tensor();
    ((theirs.log_prob * in.weights[0]).sum() + (theirs.entropy * in.weights[1]).sum()).backward();
    CHECK(max_difference(grad_hidden, in.hidden.grad()) <= 1e-9 * c.spread);
    CHECK(max_difference(grad_weight, in.weight.grad()) <= 1e-9 * c.spread);
  }
}

TEST_CASE("Token log-prob gradients equal finite differences") {
  at::manual_seed(22);
  const Inputs in = draw({4, 3, 9, 0.8, 1.0}, at::kDouble);
  const auto value = [&](const Tensor& hidden, const Tensor& weight) {
    const at::NoGradGuard no_grad;
    const auto result = token_logprob(hidden, weight, in.target, 0.8, true);
    return ((result.log_prob * in.weights[0]).sum() + (result.entropy * in.weights[1]).sum()).item<double>();
  };
  const auto result = token_logprob(in.hidden, in.weight, in.target, 0.8, true);
  ((result.log_prob * in.weights[0]).sum() + (result.entropy * in.weights[1]).sum()).backward();
  for (const Tensor& input : {in.hidden, in.weight}) {
    const Tensor numbers = input.detach().view(-1), gradient = input.grad().view(-1);
    for (int64_t i = 0; i < input.numel(); ++i) {
      constexpr double kStep = 1e-6;
      const double before = numbers[i].item<double>();
      numbers[i].fill_(before + kStep);
      const double above = value(in.hidden.detach(), in.weight.detach());
      numbers[i].fill_(before - kStep);
      const double below = value(in.hidden.detach(), in.weight.detach());
      numbers[i].fill_(before);
      CHECK(gradient[i].item<double>() == Approx((above - below) / (2 * kStep)).margin(1e-7));
    }
  }
}

TEST_CASE("Token log-probs in float32 and bfloat16 stay close to float64") {
  at::manual_seed(23);
  for (const Case& c : kCases) {
    for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
      INFO(c.rows << " rows, vocabulary " << c.vocabulary << ", " << at::toString(dtype));
      const Inputs in = draw(c, dtype);
      const auto ours = token_logprob(in.hidden, in.weight, in.target, c.temperature, true);
      CHECK(ours.log_prob.scalar_type() == at::kFloat);
      // The CPU's product in bfloat16 rounds a logit to 1 part in 256, as transformers does: compared with what it
      // makes of that. A GPU multiplies bfloat16 into float32: compared with the product in float64.
      const bool rounds = test_device().is_cpu() || dtype == at::kFloat;
      const at::ScalarType product = rounds ? dtype : at::kDouble;
      const Tensor logits = at::linear(in.hidden.detach().to(product), in.weight.detach().to(product)).to(at::kDouble) /
                            c.temperature;
      const double scale = c.rows == 0 ? 1.0 : 1.0 + logits.abs().max().item<double>();
      const Tensor log_p = at::log_softmax(logits, -1);
      CHECK(max_difference(ours.log_prob, log_p.gather(1, in.target.unsqueeze(1)).squeeze(1)) <= 2e-6 * scale);
      CHECK(max_difference(ours.entropy, -(log_p.exp() * log_p).sum(-1)) <= 2e-6 * scale);
      ((ours.log_prob * in.weights[0]).sum() + (ours.entropy * in.weights[1]).sum()).backward();
      const Tensor hidden = in.hidden.detach().to(at::kDouble).requires_grad_(true),
                   weight = in.weight.detach().to(at::kDouble).requires_grad_(true);
      const auto theirs = composed(hidden, weight, in.target, c.temperature);
      ((theirs.log_prob * in.weights[0]).sum() + (theirs.entropy * in.weights[1]).sum()).backward();
      if (c.rows == 0) continue;
      if (c.vocabulary == 1) {  // the one outcome is certain: no gradient
        CHECK(in.hidden.grad().abs().max().item<double>() == 0.0);
        continue;
      }
      const double limit = dtype == at::kFloat ? 2e-5 * c.spread : 0.02 * c.spread;
      CHECK(relative_difference(in.hidden.grad(), hidden.grad()) <= limit);
      CHECK(relative_difference(in.weight.grad(), weight.grad()) <= limit);
    }
  }
}

TEST_CASE("A logit of minus infinity weighs nothing") {
  const Tensor hidden = at::ones({1, 1}).to(test_device());
  const Tensor weight = at::tensor({1.0f, -INFINITY, 1.0f}).unsqueeze(1).to(test_device());
  const auto result = token_logprob(hidden, weight, at::tensor({2}, at::kLong).to(test_device()), 1.0, true);
  CHECK(result.log_prob.item<double>() == Approx(std::log(0.5)));
  CHECK(result.entropy.item<double>() == Approx(std::log(2.0)));
}

// On a GPU a look at the targets would stop the queue, so there a wrong one is the driver's error.
TEST_CASE("A wrong target is refused on the CPU", "[host]") {
  const Tensor hidden = at::ones({1, 1}), weight = at::ones({3, 1});
  CHECK_THROWS_AS(token_logprob(hidden, weight, at::tensor({3}, at::kLong), 1.0, false), CheckError);
  CHECK_THROWS_AS(token_logprob(hidden, weight, at::tensor({0}, at::kLong), 0.0, false), CheckError);
}

}  // namespace plural
