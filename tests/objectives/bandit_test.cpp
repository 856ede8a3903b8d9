// SPDX-License-Identifier: Apache-2.0
// Small bandits with several right answers, learned with each set objective: do they end where theory says?
#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>

#include "tests/objectives/advantage_support.h"

using namespace plural;
using namespace plural::testing;

namespace {

constexpr int64_t kPrompts = 64;
constexpr int64_t kModeGroup = 6;
const std::vector<double> kStart = {1, .5, 0, 0, 0, 0};  // logits of six arms
const std::vector<double> kUnequal = {1, .9, .8};        // what three right arms are paid

// One softmax per slot over the arms, raised by sum_i A_i grad log p(y_i).
class Bandit {
 public:
  Bandit(int64_t slots, const std::vector<double>& start) {
    at::manual_seed(11);
    for (int64_t k = 0; k < slots; ++k) logits_.push_back(at::tensor(start, at::kDouble).clone());
  }
  Tensor probability(int64_t slot = 0) const { return logits_[static_cast<size_t>(slot)].softmax(0); }
  // [rows, slots]
  Tensor draw(int64_t rows) const {
    std::vector<Tensor> columns;
    for (const Tensor& logits : logits_) columns.push_back(at::multinomial(logits.softmax(0), rows, true));
    return at::stack(columns, 1);
  }
  // advantage [rows, slots]
  void learn(const Tensor& drawn, const Tensor& advantage, double rate) {
    for (size_t k = 0; k < logits_.size(); ++k) {
      const Tensor p = logits_[k].softmax(0), a = advantage.select(1, static_cast<int64_t>(k));
      const Tensor hit = at::zeros_like(p).index_add(0, drawn.select(1, static_cast<int64_t>(k)), a);
      logits_[k] += rate / kPrompts * (hit - a.sum() * p);
    }
  }

 private:
  std::vector<Tensor> logits_;
};

// How often each arm is the right one, where that changes from prompt to prompt.
const std::vector<double> kChance = {.45, .3, .25};

double entropy(const Tensor& p) { return -(p * p.log()).sum().item<double>(); }

// The right answer changes from prompt to prompt: arm i with probability chance[i]. Returns the mean over the last
// third of the steps, for what is drawn keeps the policy moving about its rest.
Tensor learn_uncertain(const std::string& name, const std::string& options, const std::vector<double>& chance) {
  constexpr int64_t kGroup = 8;
  Bandit bandit(1, {.5, 0, 0});
  Tensor mean = at::zeros({3}, at::kDouble);
  for (int step = 0; step < 1500; ++step) {
    const Tensor right = at::multinomial(at::tensor(chance, at::kDouble), kPrompts, true);
    const Tensor drawn = bandit.draw(kPrompts * kGroup);
    AdvantageInput input;
    input.total = drawn.view({kPrompts, kGroup}).eq(right.unsqueeze(1)).to(at::kDouble).view({-1}).to(test_device());
    input.correct = input.total.gt(.5);
    input.samples_per_prompt = kGroup;
    bandit.learn(drawn, estimate(name, options, input).row.to(at::kCPU).unsqueeze(1), .5);
    if (step >= 1000) mean += bandit.probability() / 500;
  }
  return mean;
}

// Arms 0, 1, 2 are right and paid `reward`, 3, 4, 5 wrong and paid nothing; a row is a set of one answer.
Tensor learn_modes(const std::string& name, const std::string& options, const std::vector<double>& reward = {1, 1, 1},
                   int steps = 800) {
  Bandit bandit(1, kStart);
  Tensor pay = at::zeros({6}, at::kDouble);
  pay.narrow(0, 0, 3) += at::tensor(reward, at::kDouble);
  for (int step = 0; step < steps; ++step) {
    const Tensor drawn = bandit.draw(kPrompts * kModeGroup);
    std::vector<std::vector<int64_t>> match;
    for (double arm : host(drawn)) match.push_back({arm < 3 ? static_cast<int64_t>(arm) : -1});
    const AnswerBatch answers = make_sets(match);
    AdvantageInput input;
    input.total = pay.index_select(0, drawn.view({-1})).to(test_device());
    input.samples_per_prompt = kModeGroup;
    input.answers = &answers;
    input.mode = drawn.view({-1}).to(test_device());
    input.sampler_log_prob = bandit.probability().log().index_select(0, drawn.view({-1})).to(test_device());
    input.length = at::ones_like(input.mode);
    bandit.learn(drawn, estimate(name, options, input).row.to(at::kCPU).unsqueeze(1), .3);
  }
  return bandit.probability();
}

double chance_of_right(const Tensor& p) { return p.narrow(0, 0, 3).sum().item<double>(); }
// Of the three right arms among each other.
double spread(const Tensor& p) { return entropy(p.narrow(0, 0, 3) / p.narrow(0, 0, 3).sum()); }
double start_spread() { return spread(at::tensor(kStart, at::kDouble).softmax(0)); }

// Three slots over the same six arms, paid for coverage. Returns the expected number of right answers covered.
double learn_sets(const std::string& options) {
  constexpr int64_t kGroup = 4, kSlots = 3;
  Bandit bandit(kSlots, {1, .5, 0, 0, 0, 0});
  for (int step = 0; step < 150; ++step) {
    const Tensor drawn = bandit.draw(kPrompts * kGroup);
    std::vector<std::vector<int64_t>> match;
    for (const double arm : host(drawn)) {
      if (match.empty() || match.back().size() == kSlots) match.emplace_back();
      match.back().push_back(arm < 3 ? static_cast<int64_t>(arm) : -1);
    }
    const AnswerBatch answers = make_sets(match);
    AdvantageInput input;
    input.score_subset = [&](const Tensor& keep) { return weighted_coverage(answers, {1, 1, 1, 1}, keep); };
    input.total = input.score_subset(at::ones_like(answers.present));
    input.samples_per_prompt = kGroup;
    input.answers = &answers;
    const Tensor token = estimate("set_credit", options, input).token.to(at::kCPU).view({-1, kSlots + 2});
    bandit.learn(drawn, token.narrow(1, 1, kSlots), 1.0);
  }
  double covered = 3;
  for (int64_t arm = 0; arm < 3; ++arm) {
    double missed = 1;
    for (int64_t k = 0; k < kSlots; ++k) missed *= 1 - bandit.probability(k)[arm].item<double>();
    covered -= missed;
  }
  return covered;
}

// Two slots over the merits (1, 0), (0, 1), (.6, .6), (.2, .2). Returns the chances of each arm, [slot, arm].
Tensor learn_merits(const std::string& name) {
  constexpr int64_t kGroup = 4, kSlots = 2;
  Bandit bandit(kSlots, {0, 0, 0, 0});
  const Tensor merit = doubles({1, 0, 0, 1, .6, .6, .2, .2}).view({4, 2});
  for (int step = 0; step < 150; ++step) {
    const Tensor drawn = bandit.draw(kPrompts * kGroup);
    std::vector<std::vector<int64_t>> match;
    for (const double arm : host(drawn)) {
      if (match.empty() || match.back().size() == kSlots) match.emplace_back();
      match.back().push_back(static_cast<int64_t>(arm));
    }
    const AnswerBatch answers = make_sets(match);
    AdvantageInput input;
    input.vector = merit.index_select(0, answers.match.view({-1})).view({-1, kSlots, 2});
    input.total = input.vector.sum({1, 2});
    input.samples_per_prompt = kGroup;
    input.answers = &answers;
    const Tensor row = estimate(name, "{}", input).row.to(at::kCPU);
    bandit.learn(drawn, row.unsqueeze(1).expand({-1, kSlots}), .3);
  }
  return at::stack({bandit.probability(0), bandit.probability(1)});
}

// Where learning on an uncertain right answer comes to rest when advantages depend on the number of right rows alone
// and sum to 0: with W(p) = E[n+ A+] for n+ ~ Binomial(8, p), the arm that is right moves by W(p_i) and the others
// share -W(p_i) by their chances among themselves, so a_i W(p_i) / (p_i (1 - p_i)) is the same for all arms. That ratio
// must fall with p, as it does for pass@k; GRPO's does not depend on p, so only a single arm is left at rest.
std::vector<double> rest(const std::vector<double>& chance, const std::function<double(int64_t)>& right_advantage) {
  const int64_t n = 8;
  const auto ratio = [&](double p) {
    double push = 0, binomial = std::pow(1 - p, n);
    for (int64_t right = 1; right <= n; ++right) {
      binomial *= static_cast<double>(n - right + 1) / static_cast<double>(right) * p / (1 - p);
      push += binomial * static_cast<double>(right) * right_advantage(right);
    }
    return push / (p * (1 - p));
  };
  const auto solve = [](double low, double high, const std::function<bool(double)>& too_low) {
    for (int i = 0; i < 100; ++i) (too_low((low + high) / 2) ? low : high) = (low + high) / 2;
    return (low + high) / 2;
  };
  const auto at_level = [&](double level) {
    std::vector<double> p;
    for (double a : chance) p.push_back(solve(1e-9, 1 - 1e-9, [&](double x) { return a * ratio(x) > level; }));
    return p;
  };
  return at_level(solve(0, 100, [&](double level) {
    const std::vector<double> p = at_level(level);
    return std::accumulate(p.begin(), p.end(), 0.0) > 1;
  }));
}

}  // namespace

TEST_CASE("where the right answer is uncertain, GRPO collapses on the likeliest and PKPO spreads as it should") {
  const Tensor grpo = learn_uncertain("grpo", "{}", kChance);
  CHECK(grpo[0].item<double>() > .95);
  // The optimum of E max of k: p_i = 1 - (m - 1) a_i^(-1/(k-1)) / sum_j a_j^(-1/(k-1)), here with k = 3.
  double sum = 0;
  for (double a : kChance) sum += 1 / std::sqrt(a);
  std::vector<double> optimum;
  for (double a : kChance) optimum.push_back(1 - 2 / std::sqrt(a) / sum);
  check_close(host(learn_uncertain("pkpo", "{k: 3}", kChance)), optimum, .04);
  // max@k as it is has the same expectation; without a baseline it is noisier.
  check_close(host(learn_uncertain("max_at_k", "{k: 3, z_score: false}", kChance)), optimum, .04);
}

TEST_CASE("pass@k goes on trying the less likely answers where GRPO gives them up") {
  const auto choose = [](int64_t n, int64_t k) {
    double ways = k > n ? 0 : 1;
    for (int64_t i = 1; i <= k; ++i) ways *= static_cast<double>(n - k + i) / static_cast<double>(i);
    return ways;
  };
  const std::vector<double> at_rest = rest(kChance, [&](int64_t right) {
    const double miss = choose(8 - right, 3) / choose(8, 3);
    return std::sqrt(miss / (1 - miss));  // A+ = (1 - R) / sqrt(R (1 - R))
  });
  check_close(host(learn_uncertain("pass_at_k", "{k: 3}", kChance)), at_rest, .04);
  CHECK(at_rest[0] < .6);
  CHECK(at_rest[2] > .1);
}

TEST_CASE("among equal right answers GRPO makes the rich richer, coverage makes them equal") {
  const Tensor grpo = learn_modes("grpo", "{}"), coverage = learn_modes("mode_coverage", "{}");
  CHECK(chance_of_right(grpo) > .95);
  CHECK(chance_of_right(coverage) > .95);
  CHECK(spread(grpo) < start_spread() - .1);
  CHECK(spread(coverage) > std::log(3.0) - .01);
}

TEST_CASE("credits of diversity make equal right answers equally likely") {
  for (const auto& [name, options] : std::vector<std::pair<std::string, std::string>>{
           {"setpo", "{}"}, {"darling", "{}"}, {"poly_epo", "{subset: 2}"}}) {
    INFO(name);
    const Tensor p = learn_modes(name, options, {1, 1, 1}, 600);
    CHECK(chance_of_right(p) > .95);
    CHECK(spread(p) > std::log(3.0) - .01);
  }
}

TEST_CASE("UCPO loses less of the spread among equal right answers than GRPO") {
  // It pays the modes of a group the same, so that they drift apart only where a group lacks one
  // (`enumeration_test.cpp`); by likelihood every draw of a rare one counts for more.
  const double lost = start_spread() - spread(learn_modes("grpo", "{}", {1, 1, 1}, 600));
  const std::vector<std::pair<std::string, double>> shares = {{"{tau: 1}", .9}, {"{tau: 1, rarity: likelihood}", .5}};
  for (const auto& [options, share] : shares) {
    INFO(options);
    const Tensor p = learn_modes("ucpo", options, {1, 1, 1}, 600);
    CHECK(chance_of_right(p) > .95);
    CHECK(start_spread() - spread(p) < share * lost);
  }
}

TEST_CASE("among unequal right answers GRPO ends on the best") {
  CHECK(learn_modes("grpo", "{}", kUnequal, 1500)[0].item<double>() > .9);
}

TEST_CASE("among unequal right answers credits of diversity end where their gradients vanish") {
  const double n = kModeGroup, inverse = 1 / kUnequal[0] + 1 / kUnequal[1] + 1 / kUnequal[2];
  // What every credit raises, and the chances at which its derivative by each p_a is the same:
  std::vector<double> setpo, darling, poly_epo;
  for (double r : kUnequal) {
    // (n - 1) sum r p + lambda (n - 2) / (n - 1) (1 - sum p^2), lambda = 2; the rewards' mean has chance 1/3.
    setpo.push_back(1.0 / 3 + (n - 1) * (n - 1) / (4 * (n - 2)) * (r - .9));
    // sum r (n (p - p^2 / 2) - (p - p^2)): r (n - 1 - (n - 2) p) is the same.
    darling.push_back((n - 1 - (3 * (n - 1) - (n - 2)) / (inverse * r)) / (n - 2));
    // sum r (p - p^2 / 2), what two samples' mean reward x share of modes is: r (1 - p) is the same.
    poly_epo.push_back(1 - 2 / (inverse * r));
  }
  const auto right = [](const Tensor& p) { return host(p.narrow(0, 0, 3)); };
  check_close(right(learn_modes("setpo", "{lambda: 2, g: linear}", kUnequal)), setpo, .05);
  check_close(right(learn_modes("darling", "{floor: 0}", kUnequal)), darling, .05);
  check_close(right(learn_modes("poly_epo", "{subset: 2}", kUnequal)), poly_epo, .05);
}

TEST_CASE("coverage credit fills a set with different right answers") {
  CHECK(learn_sets("{}") > 2.9);
  CHECK(learn_sets("{credit: all}") > 2.5);
}

TEST_CASE("VPO's sets hold the best answer for either merit, where GRPO repeats the compromise") {
  const Tensor grpo = learn_merits("grpo"), vpo = learn_merits("vpo");
  for (int64_t slot = 0; slot < 2; ++slot) CHECK(grpo[slot][2].item<double>() > .9);  // 1.2 in sum, against 1
  const double covered = (vpo[0][0] * vpo[1][1] + vpo[0][1] * vpo[1][0]).item<double>();
  CHECK(covered > .9);
}
