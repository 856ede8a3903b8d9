// SPDX-License-Identifier: Apache-2.0
#include <ATen/Parallel.h>

#include <cmath>
#include <limits>

#include "plural/error.h"
#include "plural/optimizer.h"
#include "tests/support/catch.h"
#include "tests/support/device.h"
#include "tests/support/parity.h"

using namespace plural;

namespace {

Tensor parameter(const std::vector<double>& values, at::IntArrayRef shape, at::ScalarType dtype) {
  return at::tensor(values, at::kDouble).view(shape).to(test_device(), dtype).clone().requires_grad_(true);
}

void give(const Tensor& p, const Tensor& gradient) {
  p.mutable_grad() = gradient.to(p.device(), p.scalar_type()).view(p.sizes());
}
void give(const Tensor& p, const std::vector<double>& values) { give(p, at::tensor(values, at::kDouble)); }

bool same(const Tensor& a, const Tensor& b) { return at::equal(a.detach(), b.detach()); }

}  // namespace

TEST_CASE("AdamW follows torch.optim.AdamW") {
  const auto golden = run_parity_script("objectives_parity.py");
  const std::map<std::string, std::pair<at::ScalarType, double>> kinds = {
      {"float64", {at::kDouble, 1e-13}}, {"float32", {at::kFloat, 2e-6}}, {"bfloat16", {at::kBFloat16, 2e-6}}};
  REQUIRE(golden["adamw"].size() == 6);
  for (const auto& c : golden["adamw"]) {
    const auto [dtype, tolerance] = kinds.at(c["dtype"]);
    INFO(c["dtype"] << " decay " << c["weight_decay"] << " norm " << c["max_norm"]);
    const Tensor matrix = parameter(c["start"][0], {5, 3}, dtype), vector = parameter(c["start"][1], {3}, dtype);
    OptimizerOptions options;
    options.weight_decay = c["weight_decay"], options.max_grad_norm = c["max_norm"];
    AdamW optimizer({{"w", matrix}, {"b", vector}}, options);
    for (const auto& step : c["steps"]) {
      give(matrix, step["grads"][0].get<std::vector<double>>());
      give(vector, step["grads"][1].get<std::vector<double>>());
      const StepResult result = optimizer.step(step["lr"]);
      CHECK(result.grad_norm == Approx(step["norm"].get<double>()).epsilon(1e-6));
      CHECK_FALSE(matrix.grad().defined());
      size_t which = 0;
      for (const Tensor& p : {matrix, vector}) {
        const std::vector<double> expected = step["parameters"][which++];
        const Tensor got = p.detach().to(at::kCPU, at::kDouble).flatten();
        for (size_t i = 0; i < expected.size(); ++i) {
          // Two bfloat16 roundings of nearly the same master may fall on neighbouring numbers.
          const double neighbour = dtype == at::kBFloat16 ? std::abs(expected[i]) / 128 : 0;
          CHECK(got[i].item<double>() == Approx(expected[i]).margin(tolerance + neighbour).epsilon(tolerance));
        }
      }
    }
  }
}

TEST_CASE("one step by hand") {
  // First step: m/(1-b1) = g, v/(1-b2) = g^2, so w moves by lr * sign(g), less the decay of matrices.
  const Tensor w = parameter({1.0, -2.0}, {1, 2}, at::kDouble);
  OptimizerOptions options;
  options.eps = 1e-300, options.weight_decay = .5, options.max_grad_norm = 0;
  AdamW optimizer({{"w", w}}, options);
  give(w, std::vector<double>{3, -4});
  const StepResult result = optimizer.step(.1);
  CHECK(result.grad_norm == Approx(5.0).epsilon(1e-15));
  CHECK(w[0][0].item<double>() == Approx(1.0 * .95 - .1).epsilon(1e-14));
  CHECK(w[0][1].item<double>() == Approx(-2.0 * .95 + .1).epsilon(1e-14));
}

TEST_CASE("float32 masters keep updates that bfloat16 would lose") {
  const Tensor w = parameter({1.0}, {1}, at::kBFloat16);
  AdamW optimizer({{"w", w}}, {});
  for (int i = 0; i < 100; ++i) {
    give(w, std::vector<double>{1});
    optimizer.step(1e-4);  // each step is a fortieth of the distance to the next bfloat16
  }
  CHECK(w.item<float>() == Approx(.99).margin(.003));
}

TEST_CASE("gradients of several backward passes are summed in float32") {
  // 1 and a hundred times 1/512: in bfloat16 each addition is lost.
  const auto moved = [](at::ScalarType dtype, bool aside) {
    const Tensor w = parameter({1.0}, {1}, dtype);
    OptimizerOptions options;
    options.max_grad_norm = 0;
    AdamW optimizer({{"w", w}}, options);
    for (int pass = 0; pass <= 100; ++pass) {
      const Tensor part = at::full({1}, pass == 0 ? 1.0 : 1.0 / 512, w.options().requires_grad(false));
      if (aside) optimizer.set_gradients_aside();
      w.mutable_grad() = w.grad().defined() ? w.grad() + part : part;
    }
    return optimizer.step(1e-3).grad_norm;
  };
  const double exact = 1 + 100.0 / 512;
  CHECK(moved(at::kFloat, true) == Approx(exact).epsilon(1e-6));
  CHECK(moved(at::kBFloat16, true) == Approx(exact).epsilon(1e-6));
  CHECK(moved(at::kBFloat16, false) == Approx(1.0));
  // The sums are gone with the step: a second one has its own gradient alone.
  const Tensor w = parameter({1.0, 2.0}, {1, 2}, at::kBFloat16), twin = parameter({1.0, 2.0}, {1, 2}, at::kBFloat16);
  AdamW optimizer({{"w", w}}, {}), other({{"w", twin}}, {});
  for (int step = 0; step < 3; ++step) {
    give(w, std::vector<double>{.5, -1});
    optimizer.set_gradients_aside();
    give(w, std::vector<double>{.25, .5});
    give(twin, std::vector<double>{.75, -.5});
    CHECK(optimizer.step(.1).grad_norm == other.step(.1).grad_norm);
    CHECK(same(w, twin));
  }
}

TEST_CASE("steps with a gradient that is not finite change nothing and say so") {
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16})
    for (const double bad : {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()}) {
      const Tensor w = parameter({1, 2, 3}, {3}, dtype);
      AdamW optimizer({{"w", w}}, {});
      give(w, std::vector<double>{1, 1, 1});
      optimizer.step(.1);
      const Tensor before = w.detach().clone();
      NamedTensors state;
      for (const auto& [name, value] : optimizer.state()) state.emplace_back(name, value.clone());
      give(w, std::vector<double>{1, bad, 1});
      const StepResult result = optimizer.step(.1);
      CHECK(result.skipped);
      CHECK_FALSE(std::isfinite(result.grad_norm));
      CHECK(same(w, before));
      CHECK_FALSE(w.grad().defined());
      CHECK(optimizer.steps() == 1);
      const NamedTensors after = optimizer.state();
      for (size_t i = 0; i < state.size(); ++i) CHECK(same(after[i].second, state[i].second));
    }
}

TEST_CASE("a parameter without gradient counts as one of zero gradient") {
  const Tensor a = parameter({1}, {1}, at::kFloat), b = parameter({2}, {1}, at::kFloat);
  AdamW optimizer({{"a", a}, {"b", b}}, {});
  give(a, std::vector<double>{1});
  CHECK(optimizer.step(.1).grad_norm == Approx(1));
  CHECK(a.item<float>() == Approx(.9));
  CHECK(b.item<float>() == 2);
}

TEST_CASE("state by name: restored runs go on bit for bit") {
  for (const at::ScalarType dtype : {at::kDouble, at::kFloat, at::kBFloat16}) {
    at::manual_seed(5);
    const Tensor start = at::randn({40, 30}, at::kDouble);
    std::vector<Tensor> gradients;
    for (int i = 0; i < 6; ++i) gradients.push_back(at::randn({40, 30}, at::kDouble));
    const auto fresh = [&] { return start.to(test_device(), dtype).clone().requires_grad_(true); };
    const Tensor straight = fresh(), resumed = fresh();
    AdamW first({{"layer.w", straight}}, {});
    NamedTensors saved;
    for (int i = 0; i < 6; ++i) {
      if (i == 3)
        for (const auto& [name, value] : first.state()) saved.emplace_back(name, value.clone());
      if (i == 3) {
        resumed.detach().copy_(straight.detach());
      }
      give(straight, gradients[i]);
      first.step(1e-2);
    }
    CHECK(saved.size() == (dtype == at::kBFloat16 ? 4u : 3u));
    AdamW second({{"layer.w", resumed}}, {});
    second.load_state(saved);
    for (int i = 3; i < 6; ++i) {
      give(resumed, gradients[i]);
      second.step(1e-2);
    }
    CHECK(same(straight, resumed));
    CHECK(second.steps() == 6);
  }
}

TEST_CASE("state that does not fit is refused by name") {
  const Tensor w = parameter({1, 2}, {2}, at::kFloat);
  AdamW optimizer({{"w", w}}, {});
  NamedTensors state = optimizer.state();
  state.pop_back();
  CHECK_THROWS_WITH(optimizer.load_state(state), Catch::Contains("'w.exp_avg_sq' is missing"));
  state.emplace_back("w.exp_avg_sq", at::zeros({3}));
  CHECK_THROWS_WITH(optimizer.load_state(state), Catch::Contains("w.exp_avg_sq") && Catch::Contains("[3]"));
  state.back().second = at::zeros({2});
  CHECK_NOTHROW(optimizer.load_state(state));
  state.emplace_back("other.exp_avg", at::zeros({2}));
  CHECK_THROWS_WITH(optimizer.load_state(state), Catch::Contains("other.exp_avg"));
  CHECK_THROWS_AS(AdamW({{"w", w}, {"w", w}}, {}), CheckError);
}

TEST_CASE("the update and the norm give the same bits for any number of threads") {
  const int threads = at::get_num_threads();
  std::vector<Tensor> results;
  std::vector<double> norms;
  for (int n : {1, 2}) {
    at::set_num_threads(n);
    at::manual_seed(7);
    const Tensor w = at::randn({517, 331}).to(at::kBFloat16).requires_grad_(true);
    AdamW optimizer({{"w", w}}, {});
    for (int i = 0; i < 3; ++i) {
      give(w, at::randn({517, 331}));
      norms.push_back(optimizer.step(1e-3).grad_norm);
    }
    results.push_back(w);
  }
  at::set_num_threads(threads);
  CHECK(same(results[0], results[1]));
  for (int i = 0; i < 3; ++i) CHECK(norms[i] == norms[i + 3]);
}

TEST_CASE("schedules") {
  OptimizerOptions options;
  options.warmup_steps = 4;
  CHECK(schedule_factor(options, 0, 100) == Approx(.25));
  CHECK(schedule_factor(options, 3, 100) == Approx(1));
  CHECK(schedule_factor(options, 99, 100) == Approx(1));
  options.warmup_steps = 0, options.schedule = "linear", options.final_factor = .1;
  CHECK(schedule_factor(options, 0, 11) == Approx(1));
  CHECK(schedule_factor(options, 5, 11) == Approx(.55));
  CHECK(schedule_factor(options, 10, 11) == Approx(.1));
  options.schedule = "cosine";
  CHECK(schedule_factor(options, 0, 13) == Approx(1));
  CHECK(schedule_factor(options, 4, 13) == Approx(.1 + .9 * .75));  // cos(60 degrees) = 1/2
  CHECK(schedule_factor(options, 12, 13) == Approx(.1));
  CHECK(schedule_factor(options, 500, 13) == Approx(.1));
  CHECK(schedule_factor(options, 0, 1) == Approx(1));
  options.schedule = "step";
  CHECK_THROWS_AS(schedule_factor(options, 0, 1), InputError);
}
