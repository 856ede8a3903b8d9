// SPDX-License-Identifier: Apache-2.0
// Every estimator of parallel samples on a policy of three answers: the expectation of sum_i A_i grad log p(y_i),
// summed over all 3^G outcomes of a group, next to the gradient of what it claims to raise, by autograd through the
// same sum. What is biased has its bias derived: a number b(S) that is taken off every row of a group S costs
// grad E b(S), since E[b(S) grad log p(S)] is that; taken off row i, a number that does not depend on y_i costs
// nothing.
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cmath>
#include <functional>

#include "tests/objectives/advantage_support.h"

using namespace plural;
using namespace plural::testing;

namespace {

constexpr int64_t kAnswers = 3;
constexpr int64_t kGroup = 4;
const std::vector<double> kReward = {.2, 1.0, .55};
const std::vector<int64_t> kLength = {1, 4, 2};

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

// Gradient of a function of the three probabilities.
Tensor gradient_of(const std::function<Tensor(const Tensor&)>& f) {
  const Tensor theta = logits();
  f(theta.softmax(0)).backward();
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
  input.length = at::tensor(kLength, at::kLong).index_select(0, samples.reshape({-1})).to(test_device());
  input.sampler_log_prob = logits().detach().log_softmax(0).index_select(0, samples.reshape({-1})).to(test_device());
  input.answers = answers;
  return estimate(name, options, input).row.to(at::kCPU).view(samples.sizes());
}

void check_gradient(const Tensor& got, const Tensor& expected) {
  CHECK(expected.abs().max().item<double>() > 1e-3);
  CHECK((got - expected).abs().max().item<double>() < 1e-9);
}

// Not the expected gradient, whatever it is multiplied by.
void check_other_direction(const Tensor& got, const Tensor& expected) {
  const double ratio = (got[0] / expected[0]).item<double>();
  CHECK((got - ratio * expected).abs().max().item<double>() > 1e-3);
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

double mean_reward(const std::vector<int64_t>& y) {
  double sum = 0;
  for (int64_t a : y) sum += kReward[static_cast<size_t>(a)];
  return sum / static_cast<double>(y.size());
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
  const Tensor expected = true_gradient(samples, worth(samples, mean_reward));
  const double g = kGroup;
  check_gradient(estimated_gradient(samples, advantages("rloo", "{}", samples) / g), expected);
  check_gradient(estimated_gradient(samples, advantages("remax", "{}", samples) / g), expected);
  // The group mean holds the row itself: (G - 1) / G of the gradient.
  check_gradient(estimated_gradient(samples, advantages("grpo", "{}", samples) / (g - 1)), expected);
  // Divided by the std it is another gradient altogether.
  check_other_direction(estimated_gradient(samples, advantages("grpo", "{scale: group}", samples)), expected);
}

TEST_CASE("OPO's baseline holds the row itself: its gradient lacks that of the baseline") {
  const Tensor samples = outcomes();
  const Tensor baseline = worth(samples, [](const auto& y) {
    double paid = 0, tokens = 0;
    for (int64_t a : y) {
      const auto length = static_cast<double>(kLength[static_cast<size_t>(a)]);
      paid += length * kReward[static_cast<size_t>(a)], tokens += length;
    }
    return paid / tokens;
  });
  const Tensor reward = true_gradient(samples, worth(samples, mean_reward));
  const Tensor got = estimated_gradient(samples, advantages("opo", "{}", samples));
  check_gradient(got, double(kGroup) * reward - true_gradient(samples, baseline));
  check_other_direction(got, reward);  // lengths differ, so that it isn't GRPO's (G - 1) / G
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

TEST_CASE("SetPO raises the reward and the diversity of one sample less") {
  // D_i = U(S) - U(S without i) is unbiased for U of the n samples; its mean over the group, taken off, has the
  // expectation E U_n - E U_{n-1}, so that the gradient of E U_{n-1} is left.
  const Tensor samples = outcomes();
  const Tensor reward = true_gradient(samples, worth(samples, mean_reward));
  for (const bool linear : {false, true}) {
    INFO("linear " << linear);
    const auto diversity = [&](const std::vector<int64_t>& y) {
      const auto n = static_cast<double>(y.size());
      double sum = 0;
      for (int64_t a : y) {
        const double share = static_cast<double>(std::count(y.begin(), y.end(), a)) / n;
        sum += linear ? 1 - share : -std::log1p(share);
      }
      return sum / n;
    };
    const Tensor of_fewer = worth(samples, [&](const auto& y) { return mean_over_subsets(y, kGroup - 1, diversity); });
    const Tensor expected = double(kGroup - 1) * reward + .7 * true_gradient(samples, of_fewer);
    const std::string options = std::string("{gate: false, lambda: 0.7, g: ") + (linear ? "linear" : "log") + "}";
    check_gradient(estimated_gradient(samples, advantages("setpo", options, samples)), expected);
  }
}

TEST_CASE("SetPO's gate leaves wrong answers alone: diversity moves none of them against another") {
  const Tensor samples = outcomes();
  const std::vector<double> binary = {0, 1, 0};  // 0 and 2 are wrong
  const Tensor task = advantages("grpo", "{}", samples, binary), p = logits().detach().softmax(0);
  const auto by_diversity = [&](const std::string& options) {
    return estimated_gradient(samples, advantages("setpo", options, samples, binary) - task) / p;
  };
  const Tensor gated = by_diversity("{lambda: 3}"), open = by_diversity("{lambda: 3, gate: false}");
  CHECK(std::abs(gated[0].item<double>()) > 1e-3);
  CHECK(gated[0].item<double>() == Approx(gated[2].item<double>()).margin(1e-9).epsilon(0));
  CHECK(open[0].item<double>() < open[2].item<double>() - 1e-3);  // the rarer one would gain
}

TEST_CASE("DARLING has the gradient of sum_a r_a (p_a - p_a^2 / 2), less that of its mean") {
  // A row of answer a is paid r_a times the share of the other rows that say something else: in expectation
  // r_a (1 - p_a), whatever the row. The mean of a group, which is taken off, has the expectation sum_a r_a p_a (1 -
  // p_a).
  const Tensor samples = outcomes();
  const Tensor expected = gradient_of([](const Tensor& p) {
    const Tensor r = at::tensor(kReward, at::kDouble);
    return (r * (double(kGroup) * (p - p.square() / 2) - (p - p.square()))).sum();
  });
  check_gradient(estimated_gradient(samples, advantages("darling", "{floor: 0}", samples)), expected);
}

TEST_CASE("UCPO raises the right answers together as GRPO does; the missed ones fall behind those that are drawn") {
  const Tensor samples = outcomes();
  const std::vector<double> binary = {1, 1, 0};  // 0 and 1 are right
  const Tensor grpo = estimated_gradient(samples, advantages("grpo", "{}", samples, binary));
  for (const std::string options : {"{tau: 1}", "{tau: 0.3}", "{tau: 1, rarity: likelihood}"}) {
    INFO(options);
    const Tensor got = estimated_gradient(samples, advantages("ucpo", options, samples, binary));
    CHECK((got - grpo).abs().max().item<double>() > 1e-3);
    CHECK((got[2] - grpo[2]).abs().item<double>() < 1e-9);
    CHECK((got[0] + got[1] - grpo[0] - grpo[1]).abs().item<double>() < 1e-9);
  }
  // tau = 1 pays every right answer that is there the same, so they move apart only where one is missing.
  const Tensor apart = worth(samples, [](const auto& y) {
    const auto n = static_cast<double>(y.size());
    const auto first = std::count(y.begin(), y.end(), 0), second = std::count(y.begin(), y.end(), 1);
    const auto right = static_cast<double>(first + second);
    return right * (1 - right / n) * (double(second == 0) - double(first == 0));
  });
  const double expected = (probability(logits().detach(), samples) * apart).sum().item<double>();
  const Tensor got = estimated_gradient(samples, advantages("ucpo", "{tau: 1}", samples, binary));
  CHECK((got[0] - got[1]).item<double>() == Approx(expected).margin(1e-9).epsilon(0));
  CHECK(expected > 1e-3);                                      // the likelier one, 0, still gains on the other, though
  CHECK((grpo[0] - grpo[1]).item<double>() > expected + .01);  // less than with GRPO
}

TEST_CASE("GDPO at fixed stds is (G - 1) / G of the gradient of the weighted rewards; its own stds bend it") {
  const Tensor samples = outcomes(), flat = samples.reshape({-1});
  const std::vector<double> other = {3, 0, 1};
  AdvantageInput input;
  const Tensor first = at::tensor(kReward, at::kDouble).index_select(0, flat);
  const Tensor second = at::tensor(other, at::kDouble).index_select(0, flat);
  input.part = at::stack({first, second}, 1).to(test_device());
  input.part_weight = doubles({.7, .2});
  input.total = input.part.matmul(input.part_weight);
  input.samples_per_prompt = kGroup;
  const auto gradient = [&](const std::string& options) {
    return estimated_gradient(samples, estimate("gdpo", options, input).row.to(at::kCPU).view(samples.sizes()));
  };
  const Tensor expected = true_gradient(samples, worth(samples, [&](const auto& y) {
                                          double sum = 0;
                                          for (int64_t a : y) sum += .2 * other[static_cast<size_t>(a)];
                                          return .7 * mean_reward(y) + sum / static_cast<double>(y.size());
                                        }));
  check_gradient(gradient("{std_floor: 10, whiten: false}") * (10 + 1e-4), double(kGroup - 1) * expected);
  // With the stds that the rewards have, it is GRPO's with std, reward by reward.
  const Tensor alone = .7 * advantages("grpo", "{scale: group}", samples) +
                       .2 * advantages("grpo", "{scale: group}", samples, other);
  check_gradient(gradient("{whiten: false}"), estimated_gradient(samples, alone));
  check_other_direction(gradient("{whiten: false}"), expected);
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

namespace {

// Steps of two prompts with two rows each; the second pays other rewards. Every outcome is a step by itself.
std::vector<double> step_rewards(const std::vector<int64_t>& y) {
  const std::vector<double> second = {.5, .1, 1};
  std::vector<double> r;
  for (size_t i = 0; i < 4; ++i) r.push_back((i < 2 ? kReward : second)[static_cast<size_t>(y[i])]);
  return r;
}

// [3^4, 4]
Tensor step_advantages(const std::string& options, const Tensor& samples, const std::vector<int64_t>& length) {
  std::vector<Tensor> steps;
  for (int64_t o = 0; o < samples.size(0); ++o) {
    const Tensor y = samples[o].contiguous();
    AdvantageInput input = paid(step_rewards({y.const_data_ptr<int64_t>(), y.const_data_ptr<int64_t>() + 4}), 2);
    input.length = at::tensor(length, at::kLong).index_select(0, y).to(test_device());
    steps.push_back(estimate("reinforce_pp", options, input).row.to(at::kCPU));
  }
  return at::stack(steps);
}

}  // namespace

TEST_CASE("REINFORCE++ at a fixed std lacks the gradient of what it takes off, which holds the row itself") {
  const Tensor samples = outcomes();
  const Tensor sum = true_gradient(samples, worth(samples, [](const auto& y) {
                                     const auto r = step_rewards(y);
                                     return r[0] + r[1] + r[2] + r[3];
                                   }));
  const double floor = 100;  // above every std, so that this is the std
  const auto fixed = [&](const std::string& baseline, const std::vector<int64_t>& length) {
    const std::string options = "{std_floor: 100, baseline: " + baseline + "}";
    return estimated_gradient(samples, step_advantages(options, samples, length)) * (floor + 1e-4);
  };
  // Equal lengths: one of the step's four rows, or of the prompt's two, is in its own mean.
  check_gradient(fixed("none", {3, 3, 3}), 3.0 / 4 * sum);
  check_gradient(fixed("group", {3, 3, 3}), 1.0 / 2 * sum);
  // Else the mean over the tokens, as in OPO; with `group` it is that of rewards less their prompt's mean.
  const auto mean_over_tokens = [&](bool centred) {
    return worth(samples, [&](const auto& y) {
      auto r = step_rewards(y);
      const double one = (r[0] + r[1]) / 2, two = (r[2] + r[3]) / 2;
      double earned = 0, tokens = 0;
      for (size_t i = 0; i < 4; ++i) {
        const auto length = static_cast<double>(kLength[static_cast<size_t>(y[i])]);
        earned += length * (centred ? r[i] - (i < 2 ? one : two) : r[i]), tokens += length;
      }
      return earned / tokens;
    });
  };
  check_gradient(fixed("none", kLength), sum - true_gradient(samples, mean_over_tokens(false)));
  check_gradient(fixed("group", kLength), 1.0 / 2 * sum - true_gradient(samples, mean_over_tokens(true)));
  // Over the step's own std it is another gradient, with equal lengths, too.
  check_other_direction(estimated_gradient(samples, step_advantages("{}", samples, {3, 3, 3})), sum);
}

TEST_CASE("VPO is (G - 1) / G of the gradient of what a set is worth, group by group of equal std") {
  // A row is a set of two samples, a group two rows: the four samples of an outcome. Answers of merits (1, 0), (0, 1)
  // and (.6, .6); saying the third one first pays .1 more, whatever the preferences.
  const Tensor samples = outcomes();
  const auto set_worth = [](int64_t first, int64_t second) {
    // E max(t, 1 - t) = 3/4, E max(t, .6) = .36 + .32; one answer twice is it and one of no merit: 1/2, .6.
    const double best = first == second ? (first == 2 ? .6 : .5) : first + second == 1 ? .75 : .68;
    return best + (first == 2 ? .1 : 0);
  };
  std::vector<std::vector<int64_t>> match;
  std::vector<double> extra;
  const auto drawn = host(samples);
  for (size_t i = 0; i < drawn.size(); i += 2) {
    match.push_back({static_cast<int64_t>(drawn[i]), static_cast<int64_t>(drawn[i + 1])});
    extra.push_back(drawn[i] == 2 ? .1 : 0);
  }
  const AnswerBatch answers = make_sets(match);
  AdvantageInput input;
  input.vector = doubles({1, 0, 0, 1, .6, .6})
                     .view({3, 2})
                     .index_select(0, answers.match.view({-1}))
                     .view({answers.rows, 2, 2});
  input.total = input.vector.sum({1, 2}) + doubles(extra);
  input.samples_per_prompt = 2;
  input.answers = &answers;
  const Tensor row = estimate("vpo", "{}", input).row.to(at::kCPU).view({-1, 2});
  const Tensor advantage = row.repeat_interleave(2, 1);  // of both answers of a set
  const auto both = [&](const std::vector<int64_t>& y) {
    return std::pair(set_worth(y[0], y[1]), set_worth(y[2], y[3]));
  };
  // The std of two numbers, n divisor, is half their distance.
  const Tensor std = worth(samples, [&](const auto& y) { return std::abs(both(y).first - both(y).second) / 2; });
  const Tensor mean = worth(samples, [&](const auto& y) { return (both(y).first + both(y).second) / 2; });
  const Tensor expected = true_gradient(samples, mean);
  check_gradient(estimated_gradient(samples, advantage * (std + 1e-6).unsqueeze(1)), expected);  // G - 1 = 1
  check_other_direction(estimated_gradient(samples, advantage), expected);
}

namespace {

// Rows of one or two tokens: three first tokens, of which the last ends the row, then three second ones.
class TwoTokens {
 public:
  TwoTokens() {
    for (int64_t first = 0; first < 3; ++first)
      for (int64_t second = 0; second < (first < 2 ? 3 : 1); ++second) rows_.push_back({first, second});
    first_ = at::tensor({.3, -.2, .1}, at::kDouble).requires_grad_(true);
    second_ = at::tensor({.5, 0.0, -.4, -.1, .2, .6}, at::kDouble).view({2, 3}).requires_grad_(true);
  }

  // E sum over tokens of A_t grad log p(token), with the values of `value[0]` before the first and `value[1 + first]`
  // before the second token.
  Tensor estimated(const std::string& options, const std::vector<double>& value) {
    AdvantageInput input;
    std::vector<double> total, values, at_token;
    std::vector<int64_t> length;
    for (const auto& [first, second] : rows_) {
      total.push_back(reward(first, second)), length.push_back(first < 2 ? 2 : 1);
      values.push_back(value[0]), at_token.push_back(first < 2 ? early(first) : reward(first, second));
      if (first < 2) {
        values.push_back(value[static_cast<size_t>(1 + first)]);
        at_token.push_back(reward(first, second) - early(first));
      }
    }
    input.total = doubles(total), input.length = integers(length), input.value = doubles(values);
    input.token_reward = doubles(at_token);
    const std::vector<double> token = host(estimate("gae", options, input).token);
    Tensor loss = at::zeros({}, at::kDouble);
    size_t t = 0;
    for (const auto& [first, second] : rows_) {
      const Tensor p = probability(first, second).detach();
      loss = loss + p * token[t++] * first_.log_softmax(0)[first];
      if (first < 2) loss = loss + p * token[t++] * second_[first].log_softmax(0)[second];
    }
    return gradient(loss);
  }

  Tensor exact() {
    Tensor mean = at::zeros({}, at::kDouble);
    for (const auto& [first, second] : rows_) mean = mean + probability(first, second) * reward(first, second);
    return gradient(mean);
  }

  // What is still to be paid: the values that GAE's own are compared with.
  std::vector<double> true_values() const {
    std::vector<double> value(3, 0);
    for (const auto& [first, second] : rows_) {
      value[0] += probability(first, second).item<double>() * reward(first, second);
      if (first < 2)
        value[static_cast<size_t>(1 + first)] += second_[first].softmax(0)[second].item<double>() *
                                                 (reward(first, second) - early(first));
    }
    return value;
  }

 private:
  // Paid at the first token, and by the whole row.
  static double early(int64_t first) { return first == 0 ? .3 : -.2; }
  static double reward(int64_t first, int64_t second) {
    return first == 2 ? .4 : .1 + .5 * static_cast<double>(first) + .3 * static_cast<double>(second * second);
  }
  Tensor probability(int64_t first, int64_t second) const {
    const Tensor p = first_.softmax(0)[first];
    return first < 2 ? p * second_[first].softmax(0)[second] : p;
  }
  Tensor gradient(const Tensor& loss) {
    for (Tensor* x : {&first_, &second_}) x->mutable_grad() = Tensor();
    loss.backward();
    return at::cat({first_.grad(), second_.grad().view({-1})});
  }

  std::vector<std::pair<int64_t, int64_t>> rows_;
  Tensor first_, second_;
};

}  // namespace

TEST_CASE("GAE with lambda 1 is unbiased whatever the critic says, with any lambda where the critic is right") {
  TwoTokens policy;
  const Tensor exact = policy.exact();
  const std::vector<double> wrong = {.7, -1, 2.5};
  check_gradient(policy.estimated("{gamma: 1, lambda: 1}", {0, 0, 0}), exact);
  check_gradient(policy.estimated("{gamma: 1, lambda: 1}", wrong), exact);
  for (const std::string lambda : {"0", "0.5", "0.95"}) {
    INFO("lambda " << lambda);
    const std::string options = "{gamma: 1, lambda: " + lambda + "}";
    check_gradient(policy.estimated(options, policy.true_values()), exact);
    CHECK((policy.estimated(options, wrong) - exact).abs().max().item<double>() > 1e-3);
  }
}
