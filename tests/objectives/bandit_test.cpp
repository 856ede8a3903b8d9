// SPDX-License-Identifier: Apache-2.0
// Small bandits with several right answers, learned with each set objective: do they end where theory says?
#include <algorithm>
#include <cmath>

#include "tests/objectives/advantage_support.h"

using namespace plural;
using namespace plural::testing;

namespace {

constexpr int64_t kPrompts = 64;

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

double entropy(const Tensor& p) { return -(p * p.log()).sum().item<double>(); }

// The right answer changes from prompt to prompt: arm i with probability chance[i].
Tensor learn_uncertain(const std::string& name, const std::string& options, const std::vector<double>& chance) {
  constexpr int64_t kGroup = 8;
  Bandit bandit(1, {.5, 0, 0});
  for (int step = 0; step < 1500; ++step) {
    const Tensor right = at::multinomial(at::tensor(chance, at::kDouble), kPrompts, true);
    const Tensor drawn = bandit.draw(kPrompts * kGroup);
    AdvantageInput input;
    input.total = drawn.view({kPrompts, kGroup}).eq(right.unsqueeze(1)).to(at::kDouble).view({-1}).to(test_device());
    input.samples_per_prompt = kGroup;
    bandit.learn(drawn, estimate(name, options, input).row.to(at::kCPU).unsqueeze(1), .5);
  }
  return bandit.probability();
}

// Arms 0, 1, 2 are right, 3, 4, 5 wrong; a row is a set of one answer.
Tensor learn_modes(const std::string& name, const std::string& options) {
  constexpr int64_t kGroup = 6;
  Bandit bandit(1, {1, .5, 0, 0, 0, 0});
  for (int step = 0; step < 800; ++step) {
    const Tensor drawn = bandit.draw(kPrompts * kGroup);
    std::vector<std::vector<int64_t>> match;
    for (double arm : host(drawn)) match.push_back({arm < 3 ? static_cast<int64_t>(arm) : -1});
    const AnswerBatch answers = make_sets(match);
    AdvantageInput input;
    input.total = answers.match.ge(0).to(at::kDouble).view({-1});
    input.samples_per_prompt = kGroup;
    input.answers = &answers;
    bandit.learn(drawn, estimate(name, options, input).row.to(at::kCPU).unsqueeze(1), .3);
  }
  return bandit.probability();
}

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

}  // namespace

TEST_CASE("where the right answer is uncertain, GRPO collapses on the likeliest and PKPO spreads as it should") {
  const std::vector<double> chance = {.45, .3, .25};
  const Tensor grpo = learn_uncertain("grpo", "{}", chance);
  CHECK(grpo[0].item<double>() > .95);
  // The optimum of E max of k: p_i = 1 - (m - 1) a_i^(-1/(k-1)) / sum_j a_j^(-1/(k-1)), here with k = 3.
  double sum = 0;
  for (double a : chance) sum += 1 / std::sqrt(a);
  const Tensor pkpo = learn_uncertain("pkpo", "{k: 3}", chance);
  for (int64_t i = 0; i < 3; ++i)
    CHECK(pkpo[i].item<double>() == Approx(1 - 2 / std::sqrt(chance[static_cast<size_t>(i)]) / sum).margin(.04));
}

TEST_CASE("among equal right answers GRPO makes the rich richer, coverage makes them equal") {
  const Tensor grpo = learn_modes("grpo", "{}"), coverage = learn_modes("mode_coverage", "{}");
  CHECK(grpo.narrow(0, 0, 3).sum().item<double>() > .95);
  CHECK(coverage.narrow(0, 0, 3).sum().item<double>() > .95);
  const auto spread = [](const Tensor& p) { return entropy(p.narrow(0, 0, 3) / p.narrow(0, 0, 3).sum()); };
  const double start = spread(at::tensor({1.0, .5, 0.0}, at::kDouble).softmax(0));
  CHECK(spread(grpo) < start - .1);
  CHECK(spread(coverage) > std::log(3.0) - .01);
}

TEST_CASE("coverage credit fills a set with different right answers") {
  CHECK(learn_sets("{}") > 2.9);
  CHECK(learn_sets("{credit: all}") > 2.5);
}
