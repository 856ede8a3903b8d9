// SPDX-License-Identifier: Apache-2.0
#include <cmath>

#include "plural/error.h"
#include "plural/objective.h"
#include "tests/support/catch.h"
#include "tests/support/device.h"
#include "tests/support/parity.h"

using namespace plural;

namespace {

Tensor column(const std::vector<double>& values) { return at::tensor(values, at::kDouble).to(test_device()); }

// Rows of the given lengths with one advantage each.
ObjectiveInput rows(const std::vector<int64_t>& lengths, const std::vector<double>& advantage,
                    const std::vector<double>& log_prob, double max_tokens) {
  ObjectiveInput input;
  input.log_prob = column(log_prob).requires_grad_(true);
  const Tensor counts = at::tensor(lengths, at::kLong);
  input.row = at::repeat_interleave(counts).to(test_device());
  input.row_tokens = counts.to(at::kDouble).to(test_device());
  input.advantage = column(advantage).index_select(0, input.row);
  input.counts.rows = static_cast<double>(lengths.size());
  input.counts.tokens = input.counts.rank_tokens = static_cast<double>(log_prob.size());
  input.counts.max_tokens = max_tokens;
  return input;
}

std::vector<double> host(const Tensor& x) {
  const Tensor y = x.detach().to(at::kCPU, at::kDouble).contiguous();
  return {y.const_data_ptr<double>(), y.const_data_ptr<double>() + y.numel()};
}

double scalar(const Tensor& x) { return x.item<double>(); }

}  // namespace

TEST_CASE("losses and gradients equal PyTorch's for every aggregation, clip and KL") {
  const auto golden = run_parity_script("objectives_parity.py");
  REQUIRE(golden["objective"].size() == 4 * 3 * 4 * 2);
  for (const auto& c : golden["objective"]) {
    ObjectiveOptions options;
    options.aggregation = c["aggregation"], options.clip_low = c["clip_low"], options.clip_high = c["clip_high"];
    options.kl_weight = c["kl_weight"], options.kl = c["kl"];
    INFO(c["aggregation"] << " clip " << c["clip_high"] << " kl " << c["kl"] << " " << c["kl_weight"] << " on-policy "
                          << c["on_policy"]);
    ObjectiveInput input = rows(c["lengths"], c["advantage"], c["log_prob"], c["max_tokens"]);
    if (!c["on_policy"].get<bool>()) input.old_log_prob = column(c["old"]);
    if (options.kl_weight > 0) input.ref_log_prob = column(c["ref"]);
    const LossTerms terms = make_policy_gradient(options)->loss(input);
    terms.loss.backward();
    CHECK(scalar(terms.loss) == Approx(c["loss"].get<double>()).margin(1e-12));
    const std::vector<double> expected = c["grad"], got = host(input.log_prob.grad());
    for (size_t i = 0; i < got.size(); ++i) CHECK(got[i] == Approx(expected[i]).margin(1e-12));
  }
}

TEST_CASE("two rows by hand") {
  // Lengths 1 and 3, advantages 1 and -1, on-policy: token losses -1, 1, 1, 1.
  const std::vector<std::pair<std::string, double>> expected = {
      {"dapo", 2.0 / 4}, {"grpo", (-1.0 + 1.0) / 2}, {"dr_grpo", 2.0 / (2 * 5)}, {"bnpo", 2.0 / 4}};
  for (const auto& [aggregation, loss] : expected) {
    INFO(aggregation);
    ObjectiveOptions options;
    options.aggregation = aggregation;
    const ObjectiveInput input = rows({1, 3}, {1, -1}, {-.5, -1, -2, -3}, 5);
    CHECK(scalar(make_policy_gradient(options)->loss(input).loss) == Approx(loss).margin(1e-15));
  }
}

TEST_CASE("dapo divides by the tokens of all ranks, bnpo by those of the rank") {
  ObjectiveInput input = rows({2}, {1}, {-1, -1}, 4);
  input.counts.tokens = 8, input.counts.rank_tokens = 2, input.counts.ranks = 2;
  CHECK(scalar(make_policy_gradient({.aggregation = "dapo"})->loss(input).loss) == Approx(-2.0 / 8));
  CHECK(scalar(make_policy_gradient({.aggregation = "bnpo"})->loss(input).loss) == Approx(-2.0 / (2 * 2)));
}

TEST_CASE("the clip takes the gradient away on one side of each bound only") {
  // Ratios .5, .5, 1.5, 1.5 with advantages +, -, +, -; bounds .8 and 1.28.
  const std::vector<double> old = {-1, -1, -1, -1};
  const double low = -1 + std::log(.5), high = -1 + std::log(1.5);
  ObjectiveInput input = rows({1, 1, 1, 1}, {2, -2, 2, -2}, {low, low, high, high}, 1);
  input.old_log_prob = column(old);
  const LossTerms terms = make_policy_gradient({})->loss(input);
  terms.loss.backward();
  // Kept: d(-ratio A / 4) = -ratio A / 4 for token 0 (-.25) and token 3 (+.75).
  const std::vector<double> expected = {-.25, 0, 0, .75}, got = host(input.log_prob.grad());
  for (size_t i = 0; i < 4; ++i) CHECK(got[i] == Approx(expected[i]).margin(1e-12));
  // Objective: .5*2, .8*-2, 1.28*2, 1.5*-2 -> mean -.26; the loss is its negative.
  CHECK(scalar(terms.loss) == Approx(.26));
  CHECK(scalar(terms.sums.at("clip_low")) == 1);
  CHECK(scalar(terms.sums.at("clip_high")) == 1);
  CHECK(scalar(terms.sums.at("ratio")) == Approx(4.0));
  // KL(old || now) by k3: (r - 1) - ln r
  CHECK(scalar(terms.sums.at("kl_old")) == Approx(2 * (-.5 - std::log(.5)) + 2 * (.5 - std::log(1.5))));
}

TEST_CASE("on-policy the ratio is exactly 1 and the whole gradient flows") {
  for (const at::ScalarType dtype : {at::kFloat, at::kDouble}) {
    ObjectiveInput input = rows({2, 1}, {.3, -.7}, {-1.234567, -.1, -9.87654321}, 3);
    input.log_prob = input.log_prob.detach().to(dtype).requires_grad_(true);
    input.advantage = input.advantage.to(dtype), input.row_tokens = input.row_tokens.to(dtype);
    const LossTerms terms = make_policy_gradient({.clip_low = 0, .clip_high = 0})->loss(input);
    terms.loss.backward();
    CHECK(scalar(terms.sums.at("ratio").to(at::kDouble)) == 3.0);
    CHECK(scalar(terms.sums.at("kl_old").to(at::kDouble)) == 0.0);
    const std::vector<double> expected = {-.1, -.1, .7 / 3}, got = host(input.log_prob.grad());
    for (size_t i = 0; i < 3; ++i) CHECK(got[i] == Approx(expected[i]).margin(1e-7));
  }
}

TEST_CASE("zero advantage gives zero gradient; parts add up to the whole") {
  ObjectiveOptions options;
  options.aggregation = "grpo";
  const auto objective = make_policy_gradient(options);
  ObjectiveInput zero = rows({2, 1}, {0, 0}, {-1, -2, -3}, 3);
  objective->loss(zero).loss.backward();
  for (double g : host(zero.log_prob.grad())) CHECK(g == 0.0);

  const ObjectiveInput whole = rows({2, 1}, {.5, -1}, {-1, -2, -3}, 3);
  ObjectiveInput first = rows({2}, {.5}, {-1, -2}, 3), second = rows({1}, {-1}, {-3}, 3);
  first.counts = second.counts = whole.counts;
  CHECK(scalar(objective->loss(whole).loss) ==
        Approx(scalar(objective->loss(first).loss) + scalar(objective->loss(second).loss)).epsilon(1e-14));
}

TEST_CASE("a KL term asks for the reference and reports it") {
  const auto with = make_policy_gradient({.kl_weight = .5, .kl = "k3"});
  CHECK(with->needs_reference());
  CHECK_FALSE(make_policy_gradient({})->needs_reference());
  ObjectiveInput input = rows({1}, {0}, {-1}, 1);
  CHECK_THROWS_AS(with->loss(input), CheckError);
  input.ref_log_prob = column({-1 + std::log(2.0)});
  const LossTerms terms = with->loss(input);
  CHECK(scalar(terms.sums.at("kl_ref")) == Approx(2 - std::log(2.0) - 1));
  CHECK(scalar(terms.loss) == Approx(.5 * (2 - std::log(2.0) - 1)));
}

TEST_CASE("unknown names and empty counts are refused") {
  CHECK_THROWS_WITH(make_policy_gradient({.aggregation = "dappo"}), Catch::Contains("dapo"));
  CHECK_THROWS_AS(make_policy_gradient({.kl = "k4"}), InputError);
  ObjectiveInput input = rows({1}, {1}, {-1}, 1);
  input.counts = {};
  CHECK_THROWS_AS(make_policy_gradient({})->loss(input), CheckError);
}
