// SPDX-License-Identifier: Apache-2.0
// Every estimator of parallel samples on a policy of three answers: the expectation of sum_i A_i grad log p(y_i),
// summed over all 3^G outcomes of a group, next to the gradient of what it claims to raise, by autograd through the
// same sum.
#include <ATen/core/grad_mode.h>

#include <functional>

#include "tests/objectives/advantage_support.h"

using namespace plural;
using namespace plural::testing;

namespace {

constexpr int64_t kAnswers = 3;
constexpr int64_t kGroup = 4;
const std::vector<double> kReward = {.2, 1.0, .55};

// All outcomes of a group of kGroup samples, [3^G, G] int64.
Tensor outcomes() {
  std::vector<Tensor> axes(kGroup, at::arange(kAnswers, at::kLong));
  return at::cartesian_prod(axes);
}

Tensor logits() { return at::tensor({.4, -.3, .1}, at::kDouble).requires_grad_(true); }

// Probability of every outcome, [3^G], differentiable.
Tensor probability(const Tensor& theta, const Tensor& samples) {
  return theta.log_softmax(0).index_select(0, samples.view({-1})).view(samples.sizes()).sum(1).exp();
}

// d/d theta of sum over outcomes of p(outcome) F(outcome), F [3^G].
Tensor true_gradient(const Tensor& samples, const Tensor& worth) {
  const Tensor theta = logits();
  (probability(theta, samples) * worth).sum().backward();
  return theta.grad();
}

// E sum_i A_i grad log p(y_i), A [3^G, G].
Tensor estimated_gradient(const Tensor& samples, const Tensor& advantage) {
  const Tensor theta = logits();
  const Tensor log_p = theta.log_softmax(0).index_select(0, samples.view({-1})).view(samples.sizes());
  (probability(theta, samples).detach() * (advantage * log_p).sum(1)).sum().backward();
  return theta.grad();
}

Tensor advantages(const std::string& name, const std::string& options, const Tensor& samples,
                  const std::vector<double>& reward = kReward, const AnswerBatch* answers = nullptr) {
  AdvantageInput input;
  input.total = at::tensor(reward, at::kDouble).index_select(0, samples.reshape({-1})).to(test_device());
  input.samples_per_prompt = kGroup;
  input.mode = samples.reshape({-1}).to(test_device());
  input.correct = input.total.gt(.5);
  input.greedy_total = at::full({samples.size(0)}, reward[0], at::kDouble).to(test_device());
  input.answers = answers;
  return estimate(name, options, input).row.to(at::kCPU).view(samples.sizes());
}

void check_gradient(const Tensor& got, const Tensor& expected) {
  CHECK(expected.abs().max().item<double>() > 1e-3);
  CHECK((got - expected).abs().max().item<double>() < 1e-9);
}

// Value of every outcome by a function of its samples.
Tensor worth(const Tensor& samples, const std::function<double(const std::vector<int64_t>&)>& f) {
  std::vector<double> values;
  for (int64_t o = 0; o < samples.size(0); ++o) {
    const Tensor row = samples[o].contiguous();
    values.push_back(f({row.const_data_ptr<int64_t>(), row.const_data_ptr<int64_t>() + row.numel()}));
  }
  return at::tensor(values, at::kDouble);
}

// Mean of f over all subsets of size m.
double mean_over_subsets(const std::vector<int64_t>& y, int64_t m,
                         const std::function<double(const std::vector<int64_t>&)>& f) {
  double sum = 0, sets = 0;
  for (uint64_t mask = 0; mask < (1u << y.size()); ++mask) {
    if (__builtin_popcountll(mask) != m) continue;
    std::vector<int64_t> subset;
    for (size_t i = 0; i < y.size(); ++i)
      if (mask >> i & 1) subset.push_back(y[i]);
    sum += f(subset), ++sets;
  }
  return sum / sets;
}

double best(const std::vector<int64_t>& y) {
  double value = 0;
  for (int64_t a : y) value = std::max(value, kReward[static_cast<size_t>(a)]);
  return value;
}

}  // namespace

TEST_CASE("baselines that are unbiased for the mean reward") {
  const Tensor samples = outcomes();
  const Tensor mean_reward = worth(samples, [](const auto& y) {
    double sum = 0;
    for (int64_t a : y) sum += kReward[static_cast<size_t>(a)];
    return sum / static_cast<double>(y.size());
  });
  const Tensor expected = true_gradient(samples, mean_reward);
  const double g = kGroup;
  check_gradient(estimated_gradient(samples, advantages("rloo", "{}", samples) / g), expected);
  check_gradient(estimated_gradient(samples, advantages("remax", "{}", samples) / g), expected);
  // The group mean holds the row itself: (G - 1) / G of the gradient.
  check_gradient(estimated_gradient(samples, advantages("grpo", "{}", samples) / (g - 1)), expected);
  // Divided by the std it is another gradient altogether.
  const Tensor scaled = estimated_gradient(samples, advantages("grpo", "{scale: group}", samples) / g);
  const double ratio = (scaled[0] / expected[0]).item<double>();
  CHECK((scaled - ratio * expected).abs().max().item<double>() > 1e-3);
}

TEST_CASE("PKPO is unbiased for the best of k") {
  const Tensor samples = outcomes();
  for (int64_t k = 1; k <= 3; ++k) {
    const Tensor best_of_k = worth(samples, [&](const auto& y) { return mean_over_subsets(y, k, best); });
    const Tensor expected = true_gradient(samples, best_of_k);
    for (const std::string baseline : {"none", "loo", "loo_1"}) {
      INFO("k " << k << " baseline " << baseline);
      const std::string options = "{k: " + std::to_string(k) + ", baseline: " + baseline + "}";
      check_gradient(estimated_gradient(samples, advantages("pkpo", options, samples)), expected);
    }
  }
}

TEST_CASE("MaxRL is the maximum-likelihood gradient cut after G - 1 terms") {
  const Tensor samples = outcomes();
  const std::vector<double> binary = {0, 1, 0};
  const Tensor theta = logits();
  const Tensor p = theta.softmax(0)[1];
  p.backward();
  const double pass = p.item<double>();
  const Tensor expected = (1 - std::pow(1 - pass, kGroup - 1)) / pass * theta.grad();
  check_gradient(estimated_gradient(samples, advantages("maxrl", "{}", samples, binary) / double(kGroup)), expected);
}

TEST_CASE("mode coverage is unbiased for the correct answers that a group covers") {
  const Tensor samples = outcomes();
  const std::vector<int64_t> gold = {0, 1, -1};
  std::vector<std::vector<int64_t>> match;
  for (int64_t a : host(samples)) match.push_back({gold[static_cast<size_t>(a)]});
  const AnswerBatch answers = make_sets(match);
  const Tensor covered = worth(samples, [&](const auto& y) {
    return double(std::count(y.begin(), y.end(), 0) > 0) + double(std::count(y.begin(), y.end(), 1) > 0);
  });
  check_gradient(estimated_gradient(samples, advantages("mode_coverage", "{}", samples, kReward, &answers)),
                 true_gradient(samples, covered));
}

TEST_CASE("Poly-EPO has (n - m) / m times the gradient of its set value") {
  const Tensor samples = outcomes();
  const auto value = [](const std::vector<int64_t>& y) {
    double reward = 0;
    uint64_t modes = 0;
    for (int64_t a : y) reward += kReward[static_cast<size_t>(a)], modes |= uint64_t{1} << a;
    const double m = static_cast<double>(y.size());
    return reward / m * __builtin_popcountll(modes) / m;
  };
  for (int64_t m = 1; m <= 3; ++m) {
    INFO("m " << m);
    const Tensor set_value = worth(samples, [&](const auto& y) { return mean_over_subsets(y, m, value); });
    const double factor = static_cast<double>(kGroup - m) / static_cast<double>(m);
    check_gradient(estimated_gradient(samples, advantages("poly_epo", "{subset: " + std::to_string(m) + "}", samples)),
                   factor * true_gradient(samples, set_value));
  }
}

TEST_CASE("pass@k is a multiple of the pass@k gradient, group by group of equal success") {
  // For a fixed number of correct rows the closed form is the subset credit over a std; with the std taken off it is
  // unbiased for pass@k up to (n - k) / k.
  const Tensor samples = outcomes();
  const int64_t k = 2;
  const std::vector<bool> right = {false, true, true};
  const auto pass = [&](const std::vector<int64_t>& y) {
    return std::any_of(y.begin(), y.end(), [&](int64_t a) { return right[static_cast<size_t>(a)]; }) ? 1.0 : 0.0;
  };
  const Tensor reward = worth(samples, [&](const auto& y) { return mean_over_subsets(y, k, pass); });
  const Tensor std = (reward * (1 - reward)).sqrt().unsqueeze(1);
  const Tensor advantage = advantages("pass_at_k", "{k: 2}", samples) * std;
  check_gradient(estimated_gradient(samples, advantage),
                 double(kGroup - k) / double(k) * true_gradient(samples, reward));
}

namespace {

// How far, on samples of the policy at `theta - step`, max@k's gradient is from that at theta; largest element.
double off_policy_error(const std::string& options, int64_t k, double step) {
  const Tensor samples = outcomes(), theta = logits();
  const Tensor old = theta.detach() - step * at::tensor({1.0, -.5, .75}, at::kDouble);
  const Tensor flat = samples.reshape({-1});
  AdvantageInput input;
  input.total = at::tensor(kReward, at::kDouble).index_select(0, flat).to(test_device());
  input.samples_per_prompt = kGroup;
  input.sampler_log_prob = old.log_softmax(0).index_select(0, flat).to(test_device());
  input.log_prob = theta.detach().log_softmax(0).index_select(0, flat).to(test_device());
  const Tensor advantage = estimate("max_at_k", options, input).row.to(at::kCPU).view(samples.sizes());
  const Tensor log_p = theta.log_softmax(0).index_select(0, flat).view(samples.sizes());
  (probability(old, samples) * (advantage * log_p).sum(1)).sum().backward();
  const Tensor worth_of = worth(samples, [&](const auto& y) { return mean_over_subsets(y, k, best); });
  return (theta.grad() - true_gradient(samples, worth_of)).abs().max().item<double>();
}

}  // namespace

TEST_CASE("max@k off-policy is right to first order in the policies' distance, the plain form is not") {
  for (int64_t k = 1; k <= 3; ++k) {
    INFO("k " << k);
    const std::string plain = "{k: " + std::to_string(k) + ", z_score: false",
                      off_policy = plain + ", off_policy: true, ratio_cap: 10}";
    CHECK(off_policy_error(off_policy, k, 0) < 1e-9);
    const double whole = off_policy_error(off_policy, k, .2), half = off_policy_error(off_policy, k, .1);
    const double uncorrected = off_policy_error(plain + "}", k, .1), closer = off_policy_error(plain + "}", k, .05);
    CHECK(uncorrected > 4 * half);
    CHECK(uncorrected / closer < 2.5);  // falls with the distance
    if (k == 1)
      CHECK(whole < 1e-9);  // one row, one ratio: exact
    else
      CHECK(whole / half > 3.2);  // falls with its square
  }
}
