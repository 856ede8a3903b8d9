// SPDX-License-Identifier: Apache-2.0
// Credit within one completion, on policies that write two answers: every outcome of a group of two completions is
// enumerated, and the expected gradient is compared with that of the expected reward.
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/autograd.h>

#include "lib/objectives/advantages/spans.h"
#include "plural/error.h"
#include "tests/objectives/advantage_support.h"

using namespace plural;
using namespace plural::testing;

namespace {

using Sets = std::vector<std::vector<int64_t>>;

// How confidences are paid.
enum class Scored {
  kBrier,
  kBrierRepeatsWrong,  // a second hit of the same gold answer is wrong
  kReading,            // a reward of answers that reads confidences: the mean of z q
};

Tensor score_of(Scored scored, const AnswerBatch& answers, const Tensor& keep) {
  if (scored == Scored::kReading)
    return (kept_outcome(answers, keep, false) * answers.confidence * keep).sum(1) / answers.k;
  return kept_brier(answers, keep, scored == Scored::kBrierRepeatsWrong);
}

// An input that is paid weighted coverage, and scores where the sets have confidences.
struct Paid {
  AnswerBatch answers;
  std::vector<double> weight;
  double brier = 0;
  AdvantageInput input;

  Paid(AnswerBatch sets, std::vector<double> weights, int64_t group, double brier_weight = 0,
       Scored scored = Scored::kBrier)
      : answers(std::move(sets)), weight(std::move(weights)), brier(brier_weight) {
    input.answers = &answers;
    input.samples_per_prompt = group;
    input.score_subset = [this, scored](const Tensor& keep) {
      const Tensor coverage = weighted_coverage(answers, weight, keep);
      return brier > 0 ? coverage + brier * score_of(scored, answers, keep) : coverage;
    };
    const auto score = [this, scored](const Tensor& keep) { return brier * score_of(scored, answers, keep); };
    if (brier > 0) (scored == Scored::kReading ? input.score_reading : input.score_confidences) = score;
    input.total = input.score_subset(at::ones_like(answers.present));
  }
  std::vector<double> tokens(const std::string& options) const {
    return host(estimate("set_credit", options, input).token);
  }
};

std::vector<double> slice(const std::vector<double>& x, size_t begin, size_t count) {
  return {x.begin() + static_cast<std::ptrdiff_t>(begin), x.begin() + static_cast<std::ptrdiff_t>(begin + count)};
}

// A policy over rows of `choices` decisions, each with logits that depend on earlier ones.
struct Decision {
  std::vector<size_t> given;  // earlier decisions that it depends on
  int64_t options;
};

class TabularPolicy {
 public:
  explicit TabularPolicy(std::vector<Decision> decisions) : decisions_(std::move(decisions)) {
    at::manual_seed(3);
    for (const Decision& d : decisions_) {
      int64_t cases = 1;
      for (size_t g : d.given) cases *= decisions_[g].options;
      logits_.push_back(at::randn({cases, d.options}, at::kDouble).requires_grad_(true));
    }
    std::vector<int64_t> row(decisions_.size(), 0);
    enumerate(0, row);
  }
  // All rows that can be written, [R][decisions].
  const Sets& rows() const { return rows_; }
  // ln p of every decision of every row, [R, decisions].
  Tensor log_prob() const {
    std::vector<Tensor> columns;
    for (size_t d = 0; d < decisions_.size(); ++d) {
      std::vector<int64_t> index;
      for (const auto& row : rows_) {
        int64_t at = 0;
        for (size_t g : decisions_[d].given) at = at * decisions_[g].options + row[g];
        index.push_back(at * decisions_[d].options + row[d]);
      }
      columns.push_back(logits_[d].log_softmax(1).view({-1}).index_select(0, at::tensor(index, at::kLong)));
    }
    return at::stack(columns, 1);
  }
  // Gradients of a scalar, by decision.
  std::vector<Tensor> gradient(const Tensor& scalar) const {
    return torch::autograd::grad({scalar}, logits_, {}, false, false, /*allow_unused=*/true);
  }

 private:
  void enumerate(size_t d, std::vector<int64_t>& row) {
    if (d == decisions_.size()) {
      rows_.push_back(row);
      return;
    }
    for (int64_t o = 0; o < decisions_[d].options; ++o) {
      row[d] = o;
      enumerate(d + 1, row);
    }
  }

  std::vector<Decision> decisions_;
  std::vector<Tensor> logits_;
  Sets rows_;
};

// Which decision each token of a row is; -1 = none.
struct Experiment {
  TabularPolicy policy;
  Layout layout;
  std::vector<int64_t> decision_of_token;
  std::vector<size_t> answers, confidences;  // decisions
  double brier = 0;
  Scored scored = Scored::kBrier;

  static constexpr double kStated[2] = {.2, .9};
  const std::vector<int64_t> gold = {0, 1, -1};  // of the three answers
  const std::vector<double> weight = {1.0, .6, 0, 0};

  // All pairs of rows as groups of two.
  Paid groups() const {
    Sets match;
    std::vector<std::vector<double>> stated;
    const auto add = [&](const std::vector<int64_t>& row) {
      match.emplace_back();
      stated.emplace_back();
      for (size_t a : answers) match.back().push_back(gold[static_cast<size_t>(row[a])]);
      for (size_t c : confidences) stated.back().push_back(kStated[row[c]]);
    };
    for (const auto& first : policy.rows())
      for (const auto& second : policy.rows()) add(first), add(second);
    return Paid(make_sets(match, layout, confidences.empty() ? std::vector<std::vector<double>>{} : stated), weight, 2,
                brier, scored);
  }
  // E over pairs of sum over rows and tokens of A grad log pi / 2, by decision.
  std::vector<Tensor> estimated(const std::string& options) const {
    const Paid paid = groups();
    const auto n = static_cast<int64_t>(policy.rows().size());
    const auto tokens = static_cast<int64_t>(decision_of_token.size());
    const Tensor advantage = estimate("set_credit", options, paid.input).token.to(at::kCPU).view({n, n, 2, tokens});
    const Tensor log_prob = policy.log_prob();
    const Tensor p = log_prob.sum(1).exp().detach();
    const Tensor pair = p.unsqueeze(1) * p.unsqueeze(0);
    Tensor sum = at::zeros({}, at::kDouble);
    for (int64_t t = 0; t < tokens; ++t) {
      if (decision_of_token[static_cast<size_t>(t)] < 0) continue;
      const Tensor lp = log_prob.select(1, decision_of_token[static_cast<size_t>(t)]);
      sum = sum + (pair * (advantage.select(2, 0).select(2, t) * lp.unsqueeze(1) +
                           advantage.select(2, 1).select(2, t) * lp.unsqueeze(0)))
                          .sum() /
                      2;
    }
    return policy.gradient(sum);
  }
  // Gradient of the expected value of a row, by decision.
  std::vector<Tensor> exact(const Tensor& value) const {
    return policy.gradient((policy.log_prob().sum(1).exp() * value).sum());
  }
  // What each single row is paid: f [R] of its kept slots.
  Tensor value(const std::vector<bool>& keep, bool coverage = true, bool confidence = true) const {
    const Paid paid = groups();
    const auto n = static_cast<int64_t>(policy.rows().size());
    Tensor kept = at::zeros_like(paid.answers.present);
    for (size_t k = 0; k < keep.size(); ++k) kept.select(1, static_cast<int64_t>(k)).fill_(keep[k]);
    Tensor total = at::zeros({paid.answers.rows}, at::kDouble).to(test_device());
    if (coverage) total = total + weighted_coverage(paid.answers, weight, kept);
    if (confidence && brier > 0) total = total + brier * score_of(scored, paid.answers, kept);
    return total.to(at::kCPU).view({n, n, 2}).select(1, 0).select(1, 0);
  }
};

double distance(const std::vector<Tensor>& a, const std::vector<Tensor>& b) {
  double largest = 0;
  for (size_t i = 0; i < a.size(); ++i)
    largest = std::max(largest, ((a[i].defined() ? a[i] : at::zeros_like(b[i])) - b[i]).abs().max().item<double>());
  return largest;
}

// Two answers out of three, the second with the first in mind. Tokens: think, a1, a2, end.
Experiment two_answers() {
  return {TabularPolicy({{{}, 3}, {{0}, 3}}), Layout::kAnswers, {-1, 0, 1, -1}, {0, 1}, {}, 0};
}

// Confidences too, each chosen with its own answer in mind. Decisions: a1, a2, q1, q2.
Experiment with_confidences(Layout layout) {
  std::vector<int64_t> tokens = layout == Layout::kPairs ? std::vector<int64_t>{-1, 0, 2, 1, 3, -1}
                                                         : std::vector<int64_t>{-1, 0, 1, 2, 3, -1};
  return {TabularPolicy({{{}, 3}, {{0}, 3}, {{0}, 2}, {{1}, 2}}), layout, tokens, {0, 1}, {2, 3}, .8};
}

}  // namespace

TEST_CASE("the credits of a, a, b, wrong, c") {
  // The other completion of the group is all wrong and earns nothing anywhere, so that advantages are credits.
  const Paid paid(make_sets({{0, 0, 1, -1, 2}, {-1, -1, -1, -1, -1}}), {1, 1, 1, 1}, 2);
  const auto credits = [&](const std::string& options) { return slice(paid.tokens(options), 1, 5); };
  check_close(credits("{credit: loo}"), {0, 0, 1, 0, 1}, 1e-12);
  check_close(credits("{credit: prefix}"), {1, 0, 1, 0, 1}, 1e-12);
  check_close(credits("{credit: shapley}"), {.5, .5, 1, 0, 1}, 1e-12);
  check_close(credits("{}"), {3, 2, 2, 1, 1}, 1e-12);
  check_close(credits("{credit: all}"), {3, 3, 3, 3, 3}, 1e-12);
  check_close(credits("{credit: loo, mix: 0.5}"), {3, 3, 3.5, 3, 3.5}, 1e-12);
  // Think and end tokens have the set's; the other completion mirrors it.
  const auto all = paid.tokens("{}");
  CHECK(all.front() == Approx(3));
  CHECK(all[6] == Approx(3));
  check_close(slice(all, 7, 7), {-3, -3, -2, -2, -1, -1, -3}, 1e-12);
  check_close(host(estimate("set_credit", "{}", paid.input).row), {3, -3}, 1e-12);
}

TEST_CASE("what does not come from single answers is paid to every token") {
  Paid paid(make_sets({{0, -1}, {-1, 1}}), {1, 1, 1, 1}, 2);
  // A format reward of .5 for the first row, told to the subsets or not: only differences count.
  const Tensor format = doubles({.5, 0});
  paid.input.total = paid.input.total + format;
  const std::vector<double> expected = {.5, .5, -.5, .5, -.5, -.5, .5, -.5};
  check_close(paid.tokens("{}"), expected, 1e-12);
  const SubsetScore plain = paid.input.score_subset;
  paid.input.score_subset = [&](const Tensor& keep) { return plain(keep) + format; };
  check_close(paid.tokens("{}"), expected, 1e-12);
}

TEST_CASE("baselines are of the same place and of the other completions") {
  // Three completions of two answers; to-go at place 1: 2, 1, 0; at place 2: 1, 0, 0.
  const Paid paid(make_sets({{0, 1}, {0, 0}, {-1, -1}}), {1, 1, 1, 1}, 3);
  check_close(paid.tokens("{}"), {1.5, 1.5, 1, 1.5, 0, 0, -.5, 0, -1.5, -1.5, -.5, -1.5}, 1e-12);
  // Over the group's std of the totals 2, 1, 0.
  const auto scaled = paid.tokens("{scale: group}");
  CHECK(scaled[2] == Approx(1 / 1.0001));
  // Sets that are paid the same, by different answers: the advantages stay within what a std can make of them.
  const Paid even(make_sets({{0, -1}, {-1, 1}, {-1, 1}}), {1, 1, 1, 1}, 3);
  const auto bounded = even.tokens("{scale: group}");  // to-go at place 2: 0, 1, 1, std .57735
  CHECK(bounded[2] == Approx(-1 / (std::sqrt(1.0 / 3) + 1e-4)));
  CHECK(bounded[1] == 0.0);
}

TEST_CASE("a slot that a completion lacks has no baseline in it") {
  AnswerBatch sets = make_sets({{0, 1}, {0, -1}, {0, 1}});
  sets.answer_span[1][1].zero_();
  sets.present[1][1].fill_(false), sets.match[1][1].fill_(-1);
  const Paid paid(sets, {1, 1, 1, 1}, 3);
  // Place 2: to-go 1, -, 1: the first and the third are equal to each other.
  const auto got = paid.tokens("{}");
  CHECK(got[2] == 0.0);
  CHECK(got[10] == 0.0);
  CHECK(got[1] == Approx(.5));  // 2 against 1 and 2
  CHECK(got[6] == Approx(-1));  // the token where the answer is not: the set's advantage
  // Nobody else has the slot: what the others got from there on, which is nothing.
  AnswerBatch lone = make_sets({{0, 1}, {0, -1}});
  lone.answer_span[1][1].zero_();
  lone.present[1][1].fill_(false);
  CHECK(Paid(lone, {1, 1, 1, 1}, 2).tokens("{}")[2] == Approx(1));
}

TEST_CASE("reward-to-go is unbiased; leave-one-out, prefix and Shapley credit are not") {
  const Experiment e = two_answers();
  const auto exact = e.exact(e.value({true, true}));
  CHECK(distance(e.estimated("{credit: all}"), exact) < 1e-9);
  CHECK(distance(e.estimated("{credit: reward_to_go}"), exact) < 1e-9);

  // The bias of the others is that of their credit: E sum_k credit_k grad log p(a_k), whatever the baseline.
  const Tensor full = e.value({true, true}), first = e.value({true, false}), second = e.value({false, true});
  const auto biased = [&](const Tensor& credit_1, const Tensor& credit_2) {
    const Tensor log_prob = e.policy.log_prob(), p = log_prob.sum(1).exp().detach();
    return e.policy.gradient((p * (credit_1 * log_prob.select(1, 0) + credit_2 * log_prob.select(1, 1))).sum());
  };
  const auto loo = biased(full - second, full - first), prefix = biased(first, full - first);
  const auto shapley = biased((first + full - second) / 2, (second + full - first) / 2);
  CHECK(distance(e.estimated("{credit: loo}"), loo) < 1e-9);
  CHECK(distance(e.estimated("{credit: prefix}"), prefix) < 1e-9);
  CHECK(distance(e.estimated("{credit: shapley}"), shapley) < 1e-9);
  for (const auto& gradient : {loo, prefix, shapley}) CHECK(distance(gradient, exact) > .01);
}

TEST_CASE("credit for confidences is unbiased where a confidence moves no later answer") {
  for (const Layout layout : {Layout::kPairs, Layout::kAnswersThenConfidences}) {
    const Experiment e = with_confidences(layout);
    const auto exact = e.exact(e.value({true, true}));
    for (const std::string options : {"{}", "{confidence: to_go}", "{confidence: set}", "{credit: all}"}) {
      INFO(options << " layout " << static_cast<int>(layout));
      CHECK(distance(e.estimated(options), exact) < 1e-9);
    }
  }
}

TEST_CASE("credit for confidences is unbiased where the repetition of a hit is wrong") {
  for (const Layout layout : {Layout::kPairs, Layout::kAnswersThenConfidences}) {
    Experiment e = with_confidences(layout);
    e.scored = Scored::kBrierRepeatsWrong;
    const auto exact = e.exact(e.value({true, true}));
    for (const std::string options : {"{}", "{confidence: to_go}", "{confidence: set}"}) {
      INFO(options << " layout " << static_cast<int>(layout));
      CHECK(distance(e.estimated(options), exact) < 1e-9);
    }
  }
  // Both completions repeat the first answer. The reward wants the second confidence low, and so does its credit.
  const Paid paid(make_sets({{0, 0}, {0, 0}}, Layout::kPairs, {{.9, .9}, {.9, .1}}), {1, 1, 1, 1}, 2, 1.0,
                  Scored::kBrierRepeatsWrong);
  const auto got = paid.tokens("{}");  // think, a1, q1, a2, q2, end
  CHECK(got[4] == Approx(-(.81 - .01) / 2));
  CHECK(got[10] == Approx((.81 - .01) / 2));
}

TEST_CASE("a reward that reads confidences knows an answer only with its confidence") {
  // The first confidence is chosen after the second answer and with it in mind, so that this answer moves what the
  // first one earns.
  const auto experiment = [](Scored scored) {
    return Experiment{TabularPolicy({{{}, 3}, {{0}, 3}, {{0, 1}, 2}, {{1}, 2}}),
                      Layout::kAnswersThenConfidences,
                      {-1, 0, 1, 2, 3, -1},
                      {0, 1},
                      {2, 3},
                      .8,
                      scored};
  };
  for (const Scored scored : {Scored::kReading, Scored::kBrier, Scored::kBrierRepeatsWrong}) {
    INFO("scored " << static_cast<int>(scored));
    const Experiment e = experiment(scored);
    CHECK(distance(e.estimated("{}"), e.exact(e.value({true, true}))) < 1e-9);
  }
}

TEST_CASE("separate: answers learn from their rewards alone, confidences from their scores alone") {
  const Experiment e = with_confidences(Layout::kPairs);
  const auto coverage = e.exact(e.value({true, true}, true, false)),
             brier = e.exact(e.value({true, true}, false, true));
  const auto got = e.estimated("{separate: true}");
  CHECK(distance({got[0], got[1]}, {coverage[0], coverage[1]}) < 1e-9);
  CHECK(distance({got[2], got[3]}, {brier[2], brier[3]}) < 1e-9);
  // Judged by all scores together, a confidence learns the same in expectation.
  const auto together = e.estimated("{separate: true, confidence: set}");
  CHECK(distance({together[2], together[3]}, {brier[2], brier[3]}) < 1e-9);
  // Together, the Brier score moves the answers, too.
  CHECK(distance({coverage[0], coverage[1]}, {e.estimated("{}")[0], e.estimated("{}")[1]}) > .01);
}

TEST_CASE("separate normalisation: each part over its own std (DCPO)") {
  // One answer each: z = 1, 0, 1, 0 with q = .9, .2, .2, .2 (Brier scores 1 - .01, .96, .36, .96).
  const Paid paid(make_sets({{0}, {-1}, {1}, {-1}}, Layout::kPairs, {{.9}, {.2}, {.2}, {.2}}), {1, 1, 1, 1}, 4, 1.0);
  const auto got = paid.tokens("{separate: true, scale: group}");
  // Tokens of a row: think, answer, confidence, end. Coverage 1, 0, 1, 0 with std .57735.
  const double unit = std::sqrt(1.0 / 3) + 1e-4;
  check_close(slice(got, 0, 2), {2.0 / 3 / unit, 2.0 / 3 / unit}, 1e-12);
  check_close(slice(got, 4, 2), {-2.0 / 3 / unit, -2.0 / 3 / unit}, 1e-12);
  const double mean = (.99 + .96 + .36 + .96) / 4;
  double square = 0;
  for (double b : {.99, .96, .36, .96}) square += (b - mean) * (b - mean) / 3;
  // A right answer is compared with the other right one, a wrong one with the other wrong one.
  CHECK(got[2] == Approx((.99 - .36) / (std::sqrt(square) + 1e-4)));
  CHECK(got[10] == Approx((.36 - .99) / (std::sqrt(square) + 1e-4)));
  CHECK(got[6] == 0.0);
  CHECK(got[14] == 0.0);
}

TEST_CASE("separate: without scores of confidences their tokens learn nothing") {
  const Paid paid(make_sets({{0, -1}, {-1, -1}}, Layout::kPairs, {{.9, .1}, {.2, .2}}), {1, 1, 1, 1}, 2);
  const auto got = paid.tokens("{separate: true}");  // think, a1, q1, a2, q2, end
  check_close(slice(got, 0, 6), {1, 1, 0, 0, 0, 1}, 1e-12);
}

TEST_CASE("a prompt's advantages do not depend on how many answers others were asked for") {
  // Two completions of one answer, then two of two; paid coverage, Brier, and a format reward for the whole.
  const auto sets_of = [](const std::vector<int64_t>& k, const Sets& match, const std::vector<std::vector<double>>& q) {
    AnswerBatch sets = make_sets(match, Layout::kPairs, q);
    const Tensor asked = at::arange(sets.slots, sets.k.options()).unsqueeze(0) < integers(k).unsqueeze(1);
    sets.k = integers(k);
    sets.length = 2 + 2 * sets.k;
    sets.present = sets.present.logical_and(asked);
    sets.confidence_ok = sets.confidence_stated = sets.present;
    sets.confidence = sets.confidence * asked;
    for (Tensor* x : {&sets.match, &sets.key}) *x = x->masked_fill(asked.logical_not(), -1);
    for (Tensor* x : {&sets.answer_span, &sets.confidence_span}) *x = *x * asked.unsqueeze(2);
    return sets;
  };
  const std::vector<double> weight = {.4, 1, 1, 1};
  const auto tokens = [&](const AnswerBatch& sets, const Tensor& format, const std::string& options) {
    Paid paid(sets, weight, 2, .3);
    paid.input.total = paid.input.total + format;
    return paid.tokens(options);
  };
  const AnswerBatch alone = sets_of({1, 1}, {{-1}, {0}}, {{.3}, {.3}});
  const AnswerBatch both = sets_of({1, 1, 2, 2}, {{-1, -1}, {0, -1}, {1, 2}, {1, 1}},
                                   {{.3, 0}, {.3, 0}, {.5, .5}, {.9, .1}});
  for (const std::string options :
       {"{}", "{scale: group}", "{credit: all, scale: group}", "{credit: loo, mix: 1, scale: group}",
        "{credit: prefix, scale: group}", "{credit: shapley, scale: group}", "{confidence: to_go, scale: group}",
        "{separate: true, scale: group}", "{separate: true, confidence: set, scale: group}"}) {
    INFO(options);
    check_close(slice(tokens(both, doubles({.5, 0, 0, 0}), options), 0, 8), tokens(alone, doubles({.5, 0}), options),
                1e-12);
  }
}

TEST_CASE("a closed gate costs confidence tokens, it does not pay them") {
  // The second completion breaks the format: its Brier score is 0 however many slots count.
  AnswerBatch sets = make_sets({{0, -1}, {0, -1}}, Layout::kPairs, {{.5, .5}, {.5, .5}});
  Paid paid(sets, {1, 1, 1, 1}, 2, 1.0);
  const Tensor open = doubles({1, 0});
  const auto brier = [&](const Tensor& keep) { return open * kept_brier(paid.answers, keep); };
  paid.input.score_confidences = brier;
  paid.input.score_subset = [&](const Tensor& keep) {
    return weighted_coverage(paid.answers, paid.weight, keep) + brier(keep);
  };
  paid.input.total = paid.input.score_subset(at::ones_like(paid.answers.present));
  for (const std::string options : {"{}", "{confidence: to_go}", "{separate: true}"}) {
    INFO(options);
    const auto got = paid.tokens(options);
    for (size_t k : {2u, 4u}) {
      CHECK(got[k] > 0);
      CHECK(got[6 + k] < 0);
    }
  }
  // So do answer tokens where both parts count.
  CHECK(paid.tokens("{}")[1] > 0);
}

TEST_CASE("equal completions have advantage exactly 0 in every token") {
  const Paid paid(make_sets({{0, 1}, {0, 1}, {0, 1}}, Layout::kPairs, {{.3, .4}, {.3, .4}, {.3, .4}}), {.1, .7, 1, 1},
                  3, .3);
  for (const std::string options : {"{}", "{credit: all}", "{credit: shapley}", "{separate: true, scale: group}"})
    for (double a : paid.tokens(options)) CHECK(a == 0.0);
}

TEST_CASE("a span owns its opening tag, a token that two spans share goes to the later one") {
  AnswerBatch sets = make_sets({{0, 1}}, Layout::kPairs, {{.5, .5}});
  // Tokens: 0 think, 1-2 answer 1, 2-3 its confidence (token 2 holds both tags), 4 answer 2, 5 its confidence.
  sets.answer_span = integers({1, 3, 4, 5}).view({1, 2, 2});
  sets.confidence_span = integers({2, 4, 5, 6}).view({1, 2, 2});
  sets.length = integers({7});
  const SpanOrder order = span_order(sets);
  const Tensor painted = paint_tokens(sets, order,
                                      {doubles({9}), doubles({1, 2}).view({1, 2}), doubles({10, 20}).view({1, 2})});
  check_close(host(painted), {9, 1, 10, 10, 2, 20, 9}, 0);
  // What stands before: answers that are written, and whole pairs.
  const Before second = written_before(order, 1, false), confidence = written_before(order, 0, true);
  check_close(host(second.answers), {1, 0}, 0);
  check_close(host(second.pairs), {1, 0}, 0);
  check_close(host(confidence.answers), {1, 0}, 0);
  check_close(host(confidence.pairs), {0, 0}, 0);
}

TEST_CASE("what cannot work is refused") {
  Paid paid(make_sets({{0, 1}, {0, 0}}), {1, 1, 1, 1}, 2);
  paid.input.score_subset = {};
  CHECK_THROWS_WITH(paid.tokens("{}"), Catch::Contains("no reward judges a part of a set"));
  CHECK_NOTHROW(paid.tokens("{credit: all}"));
  CHECK_THROWS_WITH(builtin_advantages().make("set_credit", parse_yaml("{credit: shapley}", "a"))->check_sizes(4, 11),
                    Catch::Contains("num_answers <= 10"));
  CHECK_THROWS_AS(paid.tokens("{credit: to_go}"), InputError);
}
