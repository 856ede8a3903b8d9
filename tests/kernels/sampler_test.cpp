// SPDX-License-Identifier: Apache-2.0
#include "lib/kernels/sampler/sampler.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <vector>

#include "plural/error.h"
#include "plural/rng.h"
#include "tests/support/catch.h"
#include "tests/support/device.h"

using namespace plural;
using kernels::DrawPlace;
using kernels::sample;
using kernels::SampleInput;
using kernels::SampleOutput;

namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

Tensor row_of(std::vector<float> values) { return at::tensor(values).to(test_device()).unsqueeze(0).contiguous(); }

/// n draws of one row of logits: streams 0..n-1, token 0.
struct Draws {
  std::vector<DrawPlace> places;
  SampleInput input;
  explicit Draws(const Tensor& logits, int64_t n) {
    for (int64_t i = 0; i < n; ++i) places.push_back({static_cast<uint64_t>(i), 0});
    input.logits = logits.expand({n, logits.size(1)}).contiguous();
    input.seed = 20260601;
  }
  SampleOutput run() {
    input.rows = places;
    SampleOutput out = sample(input);
    return {out.ids.cpu(), out.log_prob.cpu()};
  }
};

std::vector<int64_t> counts(const Tensor& ids, int64_t vocab) {
  std::vector<int64_t> out(vocab);
  for (int64_t i = 0; i < ids.numel(); ++i) ++out.at(ids[i].item<int64_t>());
  return out;
}

/// Pearson's statistic minus its degrees of freedom, in standard deviations of chi-square (sqrt(2 df)).
double chi_square_excess(const std::vector<int64_t>& observed, const std::vector<double>& p) {
  double n = 0, statistic = 0;
  int free = -1;
  for (const int64_t count : observed) n += static_cast<double>(count);
  for (size_t i = 0; i < p.size(); ++i) {
    if (p[i] == 0) {
      CHECK(observed[i] == 0);
      continue;
    }
    const double expected = n * p[i];
    statistic += (observed[i] - expected) * (observed[i] - expected) / expected;
    ++free;
  }
  return (statistic - free) / std::sqrt(2.0 * std::max(free, 1));
}

// Logits of 8 tokens with probabilities 1/36 ... 8/36, in mixed order.
const std::vector<double> kShares = {3, 8, 1, 6, 2, 7, 5, 4};
Tensor share_logits() {
  std::vector<float> logits;
  for (const double share : kShares) logits.push_back(static_cast<float>(std::log(share) + 11.0));
  return row_of(logits);
}
std::vector<double> shares_of(std::vector<double> kept) {
  double sum = 0;
  for (const double share : kept) sum += share;
  for (double& share : kept) share /= sum;
  return kept;
}

}  // namespace

TEST_CASE("frequencies follow the softmax", "[sampler][many_draws]") {
  struct Case {
    const char* name;
    std::function<void(SampleInput&)> set;
    std::vector<double> kept;  // shares of the 8 tokens, up to a factor
  };
  std::vector<double> squares, roots;
  for (const double share : kShares) squares.push_back(share * share), roots.push_back(std::sqrt(share));
  const std::vector<Case> cases = {
      {"plain", [](SampleInput&) {}, kShares},
      {"temperature 1/2 squares the odds", [](SampleInput& in) { in.temperature = 0.5; }, squares},
      {"temperature 2 takes the root", [](SampleInput& in) { in.temperature = 2; }, roots},
      {"top-k 3", [](SampleInput& in) { in.top_k = 3; }, {0, 8, 0, 6, 0, 7, 0, 0}},
      {"top-k larger than the vocabulary is off", [](SampleInput& in) { in.top_k = 9; }, kShares},
      {"top-p: 8 + 7 = 15/36 is short of 0.5, 21/36 is enough",
       [](SampleInput& in) { in.top_p = 0.5; },
       {0, 8, 0, 6, 0, 7, 0, 0}},
      {"top-p 0 keeps the likeliest", [](SampleInput& in) { in.top_p = 0; }, {0, 1, 0, 0, 0, 0, 0, 0}},
      {"top-p acts on what top-k left: 15/26 of 8, 7, 6, 5 is enough for 0.57",
       [](SampleInput& in) { in.top_k = 4, in.top_p = 0.57; },
       {0, 8, 0, 0, 0, 7, 0, 0}},
      {"min-p 0.6 keeps 8, 7, 6, 5 (5/8 = 0.625)", [](SampleInput& in) { in.min_p = 0.6; }, {0, 8, 0, 6, 0, 7, 5, 0}},
      {"min-p 1 keeps the likeliest", [](SampleInput& in) { in.min_p = 1; }, {0, 1, 0, 0, 0, 0, 0, 0}},
      {"filters see the temperature: at 1/2, 64/204 + 49/204 > 0.5",
       [](SampleInput& in) { in.temperature = 0.5, in.top_p = 0.5; },
       {0, 64, 0, 0, 0, 49, 0, 0}},
  };
  for (const Case& one : cases) {
    INFO(one.name);
    Draws draws(share_logits(), 40000);
    one.set(draws.input);
    const SampleOutput out = draws.run();
    CHECK(chi_square_excess(counts(out.ids, 8), shares_of(one.kept)) < 4.0);
    // The log-prob is of the whole temperature-scaled distribution, whatever the filters drop.
    const Tensor reference = at::log_softmax(share_logits().cpu().to(at::kDouble) / draws.input.temperature, 1)[0];
    const Tensor expected = reference.index_select(0, out.ids);
    CHECK((out.log_prob.to(at::kDouble) - expected).abs().max().item<double>() < 2e-6);
  }
}

TEST_CASE("frequencies of a large vocabulary", "[sampler][many_draws]") {
  // 5003 tokens (not a multiple of anything), grouped into 50 cells for the statistic.
  constexpr int64_t kVocab = 5003, kDraws = 20000, kCells = 50;
  auto generator = at::make_generator<at::CPUGeneratorImpl>(5);
  const Tensor logits = at::randn({1, kVocab}, generator) * 3;
  Draws draws(logits.to(test_device()), kDraws);
  draws.input.temperature = 0.8;
  Tensor p = at::softmax(logits[0].to(at::kDouble) / 0.8, 0);
  SECTION("plain") {}
  SECTION("top-k 700") {
    draws.input.top_k = 700;
    const Tensor rest = std::get<1>(p.topk(kVocab - 700, 0, false));
    p.index_fill_(0, rest, 0);
  }
  SECTION("top-p 0.9") {
    draws.input.top_p = 0.9;
    const auto [sorted, order] = p.sort(0, true);
    const Tensor before = sorted.cumsum(0) - sorted;
    p.index_fill_(0, order.masked_select(before >= 0.9), 0);
  }
  p /= p.sum();
  std::vector<double> cells(kCells);
  for (int64_t i = 0; i < kVocab; ++i) cells[i % kCells] += p[i].item<double>();
  const SampleOutput out = draws.run();
  CHECK(p.index_select(0, out.ids).min().item<double>() > 0);
  CHECK(chi_square_excess(counts(out.ids % kCells, kCells), cells) < 4.0);
  const Tensor log_p = at::log_softmax(logits[0].to(at::kDouble) / 0.8, 0).index_select(0, out.ids);
  CHECK((out.log_prob.to(at::kDouble) - log_p).abs().max().item<double>() < 1e-5);
}

TEST_CASE("ids past the drawable ones are never drawn, but count in the log-prob", "[sampler][many_draws]") {
  Draws draws(share_logits(), 8000);
  draws.input.drawable = 3;
  std::vector<double> expected = {3, 8, 1, 0, 0, 0, 0, 0};
  SECTION("plain") {}
  SECTION("top-k") {
    draws.input.top_k = 2;
    expected[2] = 0;
  }
  SECTION("greedy") {
    draws.input.temperature = 0;
    expected = {0, 1, 0, 0, 0, 0, 0, 0};
  }
  const SampleOutput out = draws.run();
  CHECK(chi_square_excess(counts(out.ids, 8), shares_of(expected)) < 4.0);
  CHECK(out.log_prob[0].item<float>() == Approx(std::log(kShares[out.ids[0].item<int64_t>()] / 36)));
}

TEST_CASE("token t of a row takes the 2t-th number of the row's stream", "[sampler]") {
  // Two tokens of p = 1/4 and 3/4: id 0 exactly where the number is below 1/4.
  const Tensor logits = row_of({0.0F, std::log(3.0F)});
  for (const uint64_t step : {uint64_t{0}, uint64_t{7}, uint64_t{1} << 33}) {
    Draws draws(logits, 12 * 40);
    draws.input.seed = 0x123456789ABCDEFULL;
    draws.input.step = step;
    std::vector<int64_t> expected;
    for (uint64_t row = 0; row < 12; ++row) {
      RandomStream stream(draws.input.seed, RandomPurpose::kSampling, step, row + 1000);
      for (uint64_t token = 0; token < 40; ++token) {
        draws.places[row * 40 + token] = {row + 1000, token};
        expected.push_back(stream.uniform() < 0.25 ? 0 : 1);
        stream.uniform();
      }
    }
    CHECK(at::equal(draws.run().ids, at::tensor(expected)));
  }
}

TEST_CASE("a row's draw does not depend on the other rows", "[sampler]") {
  auto generator = at::make_generator<at::CPUGeneratorImpl>(9);
  const Tensor logits = at::randn({17, 3001}, generator).to(test_device());
  std::vector<DrawPlace> places;
  for (uint64_t r = 0; r < 17; ++r) places.push_back({r * 3, r + 5});
  for (const int64_t top_k : {0, 50}) {
    SampleInput in;
    in.logits = logits, in.rows = places, in.seed = 1, in.top_k = top_k;
    const SampleOutput all = sample(in);
    for (int64_t r = 0; r < 17; ++r) {
      in.logits = logits.narrow(0, r, 1);
      in.rows = std::span(places).subspan(r, 1);
      const SampleOutput one = sample(in);
      CHECK(at::equal(one.ids, all.ids.narrow(0, r, 1)));
      CHECK(at::equal(one.log_prob, all.log_prob.narrow(0, r, 1)));
    }
  }
}

TEST_CASE("greedy takes the largest logit, the lowest id among equals", "[sampler]") {
  for (const int64_t vocab : {1, 3, 16, 17, 1024, 5000}) {
    Tensor logits = at::zeros({1, vocab});
    const int64_t best = vocab / 2;
    logits[0][best] = 2.0;
    logits[0][vocab - 1] = 2.0;
    Draws draws(logits.to(test_device()), 1);
    draws.input.temperature = 0;
    const SampleOutput out = draws.run();
    CHECK(out.ids.item<int64_t>() == best);
    CHECK(out.log_prob.item<float>() == Approx(at::log_softmax(logits[0], 0)[best].item<float>()).margin(1e-6));
  }
}

TEST_CASE("ties at the edge keep the lower ids", "[sampler][many_draws]") {
  Draws draws(row_of({1, 5, 5, 5, 0, 5}), 4000);
  SECTION("top-k") { draws.input.top_k = 2; }
  SECTION("top-p: two of four tokens of almost 1/4 each") { draws.input.top_p = 0.4; }
  const std::vector<int64_t> seen = counts(draws.run().ids, 6);
  CHECK(seen[1] + seen[2] == 4000);
  CHECK(chi_square_excess({seen[1], seen[2]}, {0.5, 0.5}) < 4.0);
}

TEST_CASE("dropped tokens (-inf) and extreme temperatures", "[sampler][many_draws]") {
  Draws draws(row_of({-kInfinity, 3, -kInfinity, 3, -1e30F}), 2000);
  SECTION("plain") {}
  SECTION("nearly greedy") { draws.input.temperature = 1e-9; }
  SECTION("hot") { draws.input.temperature = 100; }
  SECTION("top-k beyond the finite ones") { draws.input.top_k = 4; }
  SECTION("top-p") { draws.input.top_p = 0.99; }
  const SampleOutput out = draws.run();
  const std::vector<int64_t> seen = counts(out.ids, 5);
  CHECK(seen[1] + seen[3] == 2000);
  CHECK(seen[1] > 800);
  CHECK(seen[3] > 800);
  CHECK(out.log_prob[0].item<float>() == Approx(std::log(0.5)));
}

TEST_CASE("logits that are not finite give NaN and a valid id", "[sampler]") {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (const float temperature : {0.0F, 1.0F}) {
    for (const auto& row : std::vector<std::vector<float>>{{1, nan, 2}, {nan, nan}, {-kInfinity}, {1, kInfinity}}) {
      Draws draws(row_of(row), 1);
      draws.input.temperature = temperature;
      const SampleOutput out = draws.run();
      CHECK(out.ids.item<int64_t>() == 0);
      CHECK(std::isnan(out.log_prob.item<float>()));
    }
  }
}

TEST_CASE("broken calls of sample are refused", "[sampler]") {
  Draws draws(row_of({1, 2}), 2);
  draws.input.rows = draws.places;
  SECTION("rows") { draws.input.rows = draws.input.rows.subspan(1); }
  SECTION("dtype") { draws.input.logits = draws.input.logits.to(at::kDouble); }
  SECTION("temperature") { draws.input.temperature = -1; }
  SECTION("top-p") { draws.input.top_p = 1.5; }
  SECTION("min-p") { draws.input.min_p = std::nan(""); }
  CHECK_THROWS_AS(sample(draws.input), CheckError);
}
