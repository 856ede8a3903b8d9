// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "plural/error.h"
#include "tests/objectives/advantage_support.h"

using namespace plural;
using plural::testing::booleans;
using plural::testing::check_close;
using plural::testing::doubles;
using plural::testing::host;
using plural::testing::integers;
using plural::testing::make_sets;
using plural::testing::paid;

namespace {

std::vector<double> estimate(const std::string& name, const std::string& options, const std::vector<float>& total,
                             int64_t group) {
  AdvantageInput input;
  input.total = at::tensor(total, at::kFloat).to(test_device());
  input.samples_per_prompt = group;
  input.length = at::ones({input.total.size(0)}, input.total.options().dtype(at::kLong));
  const Tensor row = plural::testing::estimate(name, options, input).row;
  REQUIRE(row.scalar_type() == at::kFloat);
  REQUIRE(row.device() == input.total.device());
  return host(row);
}

std::vector<double> rows_of(const std::string& name, const std::string& options, const AdvantageInput& input) {
  return host(plural::testing::estimate(name, options, input).row);
}

// spec/objectives.md section 3: 8 rollouts, 2 correct.
const std::vector<float> kTwoOfEight = {1, 0, 0, 1, 0, 0, 0, 0};
std::vector<double> two_of_eight(double right, double wrong) {
  return {right, wrong, wrong, right, wrong, wrong, wrong, wrong};
}

}  // namespace

TEST_CASE("Dr.GRPO: reward minus group mean") {
  check_close(estimate("grpo", "{}", kTwoOfEight, 8), two_of_eight(.75, -.25), 1e-7);
}

TEST_CASE("GRPO with the group's std, n - 1 divisor") {
  // std = sqrt((2 * .75^2 + 6 * .25^2) / 7) = .4629100; .75 / (.46291 + 1e-4) = 1.619835
  check_close(estimate("grpo", "{scale: group}", kTwoOfEight, 8), two_of_eight(1.620, -.540), 5e-4);
  check_close(estimate("grpo", "{scale: group}", kTwoOfEight, 8), two_of_eight(1.619835, -.539945), 1e-6);
}

TEST_CASE("GRPO with the group's std, n divisor") {
  // std = sqrt((2 * .75^2 + 6 * .25^2) / 8) = .4330127: 1.732/-.577 as the specification has it
  check_close(estimate("grpo", "{scale: group, divisor: n}", kTwoOfEight, 8), two_of_eight(1.732, -.577), 5e-4);
}

TEST_CASE("GRPO with the batch's std") {
  // Groups {1, 0} and {3, 3}: mean 1.75, std = sqrt((.5625 + 3.0625 + 1.5625 + 1.5625) / 3) = 1.5
  check_close(estimate("grpo", "{scale: batch}", {1, 0, 3, 3}, 2), {.5 / 1.5001, -.5 / 1.5001, 0, 0}, 1e-7);
}

TEST_CASE("a std floor bounds the advantage") {
  check_close(estimate("grpo", "{scale: group, std_floor: 0.5}", {.01f, 0, .01f, 0}, 4),
              {.005 / .5001, -.005 / .5001, .005 / .5001, -.005 / .5001}, 1e-8);
}

TEST_CASE("RLOO: reward minus the mean of the others") {
  // 1 - 1/7 = .857, 0 - 2/7 = -.286
  check_close(estimate("rloo", "{}", kTwoOfEight, 8), two_of_eight(6.0 / 7, -2.0 / 7), 1e-7);
}

TEST_CASE("an all-equal group has advantage exactly 0, rounding included") {
  const float sum = .6f, other_order = std::nextafter(sum, 1.f);  // the same terms, added in another order
  for (const auto& [name, options] :
       std::vector<std::pair<std::string, std::string>>{{"grpo", "{}"},
                                                        {"grpo", "{scale: group}"},
                                                        {"grpo", "{scale: batch}"},
                                                        {"rloo", "{}"},
                                                        {"opo", "{}"},
                                                        {"maxrl", "{}"},
                                                        {"reinforce_pp", "{}"},
                                                        {"reinforce_pp", "{baseline: group}"}}) {
    INFO(name << " " << options);
    for (double a : estimate(name, options, {.1f, .1f, .1f}, 3)) CHECK(a == 0.0);
    for (double a : estimate(name, options, {sum, other_order, sum}, 3)) CHECK(a == 0.0);
    for (double a : estimate(name, options, {7}, 1)) CHECK(a == 0.0);
    // A difference that means something is kept.
    CHECK(estimate(name, options, {.1f, .1f, .101f}, 3)[2] > 0);
  }
  for (const auto& [name, options] : std::vector<std::pair<std::string, std::string>>{{"pkpo", "{k: 2}"},
                                                                                      {"pkpo", "{k: 2, baseline: loo}"},
                                                                                      {"max_at_k", "{k: 2}"},
                                                                                      {"setpo", "{}"},
                                                                                      {"darling", "{}"},
                                                                                      {"ucpo", "{}"},
                                                                                      {"poly_epo", "{subset: 2}"}}) {
    INFO(name << " " << options);
    AdvantageInput input;
    input.total = at::tensor(std::vector<float>{sum, other_order, sum, sum}, at::kFloat).to(test_device());
    input.samples_per_prompt = 4;
    input.mode = integers({3, 3, 3, 3});
    input.correct = booleans({1, 1, 1, 1});
    for (double a : rows_of(name, options, input)) CHECK(a == 0.0);
  }
}

TEST_CASE("advantages sum to 0 in every group and do not look across groups") {
  const std::vector<float> one = {.3f, -1.f, 2.f, .25f}, two = {.3f, -1.f, 2.f, .25f, 9.f, 8.f, -7.f, 0.f};
  for (const std::string name : {"grpo", "rloo"}) {
    const auto a = estimate(name, "{}", one, 4), b = estimate(name, "{}", two, 4);
    CHECK(a[0] + a[1] + a[2] + a[3] == Approx(0).margin(1e-6));
    for (size_t i = 0; i < 4; ++i) CHECK(a[i] == b[i]);
  }
}

TEST_CASE("advantages of a group sum to 0 for every estimator that compares the rows of a group evenly") {
  const AnswerBatch answers = make_sets({{0, -1}, {1, 0}, {-1, -1}, {1, 1}, {-1, 2}, {2, 3}, {2, 0}, {3, -1}});
  AdvantageInput input = paid({.3, 1, .2, .7, 2, .5, 3, 0}, 4);
  input.answers = &answers;
  input.length = integers({3, 1, 4, 1, 5, 9, 2, 6});
  input.mode = integers({0, 2, 0, 1, 1, 1, 0, 3});
  input.correct = booleans({1, 1, 0, 1, 1, 0, 1, 0});
  input.sampler_log_prob = doubles({-3, -1, -2, -5, -8, -4, -1, -6});
  input.part = at::stack({input.total, doubles({1, 0, 0, 2, 5, 1, 1, 4})}, 1), input.part_weight = doubles({1, .4});
  input.part_valid = booleans({1, 1, 1, 0, 1, 1, 1, 1, 1, 1, 0, 1, 1, 1, 1, 1}).view({8, 2});
  input.vector = doubles({1, 0, .5, .2, .3, .3, 0,  1,  .9, .1, .2, .2, .4, .8, .6, 0,
                          0, 0, .7, .5, .1, .9, .3, .2, .5, .5, .8, .1, .2, .6, .9, .9})
                     .view({8, 2, 2});
  input.score_subset = [&](const Tensor& keep) {
    return plural::testing::weighted_coverage(answers, {1, .5, .25, 2}, keep);
  };
  const auto sums = [&](const std::string& name, const std::string& options) {
    const auto a = rows_of(name, options, input);
    double size = 0;
    for (double x : a) size = std::max(size, std::abs(x));
    CHECK(size > .01);
    return std::vector<double>{a[0] + a[1] + a[2] + a[3], a[4] + a[5] + a[6] + a[7]};
  };
  for (const auto& [name, options] :
       std::vector<std::pair<std::string, std::string>>{{"grpo", "{}"},
                                                        {"grpo", "{scale: group}"},
                                                        {"grpo", "{scale: batch}"},
                                                        {"rloo", "{}"},
                                                        {"maxrl", "{}"},
                                                        {"gdpo", "{}"},
                                                        {"gdpo", "{whiten: false}"},
                                                        {"pass_at_k", "{k: 2}"},
                                                        {"max_at_k", "{k: 2}"},
                                                        {"poly_epo", "{subset: 2}"},
                                                        {"setpo", "{gate: false}"},
                                                        {"darling", "{}"},
                                                        {"ucpo", "{}"},
                                                        {"ucpo", "{tau: 1}"},
                                                        {"ucpo", "{rarity: likelihood}"},
                                                        {"vpo", "{}"},
                                                        {"set_credit", "{}"},
                                                        {"set_credit", "{credit: all, scale: group}"}}) {
    INFO(name << " " << options);
    check_close(sums(name, options), {0, 0}, 1e-12);
  }
  // OPO weighs rows by their tokens, and so do the tokens' own sums: 0 over a group's tokens, not over its rows.
  const auto opo = rows_of("opo", "{}", input), length = host(input.length);
  for (size_t first : {0, 4}) {
    double tokens = 0;
    for (size_t i = first; i < first + 4; ++i) tokens += length[i] * opo[i];
    CHECK(tokens == Approx(0).margin(1e-12));
  }
  CHECK(std::abs(sums("opo", "{}")[0]) > .01);
  // REINFORCE++ and whitened GAE are 0 over all tokens of the step.
  input.value = at::arange(31, input.total.options()).sin();
  for (const auto& [name, options] :
       std::vector<std::pair<std::string, std::string>>{{"reinforce_pp", "{gamma: 0.9}"},
                                                        {"reinforce_pp", "{gamma: 0.9, baseline: group}"},
                                                        {"gae", "{whiten: true}"}}) {
    INFO(name << " " << options);
    const Tensor token = plural::testing::estimate(name, options, input).token;
    CHECK(token.abs().max().item<double>() > .01);
    CHECK(token.sum().item<double>() == Approx(0).margin(1e-11));
  }
}

TEST_CASE("OPO weighs the baseline by length") {
  AdvantageInput input = paid({1, 0, 0}, 3);
  input.length = integers({4, 1, 3});
  check_close(rows_of("opo", "{}", input), {.5, -.5, -.5}, 1e-12);  // baseline 4/8
}

TEST_CASE("ReMax takes off what the greedy completion is paid") {
  AdvantageInput input = paid({1, 0, .5, .5}, 2);
  CHECK_THROWS_AS(rows_of("remax", "{}", input), CheckError);
  input.greedy_total = doubles({.25, .5});
  check_close(rows_of("remax", "{}", input), {.75, -.25, 0, 0}, 1e-12);
  CHECK(builtin_advantages().make("remax")->needs_greedy());
}

TEST_CASE("MaxRL divides by the mean") {
  check_close(estimate("maxrl", "{}", kTwoOfEight, 8), two_of_eight(3, -1), 1e-6);
  check_close(estimate("maxrl", "{}", {0, 0, 0}, 3), {0, 0, 0}, 0);
  CHECK_THROWS_WITH(estimate("maxrl", "{}", {1, -1}, 2), Catch::Contains("rewards of at least 0"));
}

TEST_CASE("REINFORCE++ whitens over all tokens of the batch") {
  // Rewards 1, 0 on 1 and 3 tokens: mean .25, std = sqrt((.75^2 + 3 * .25^2) / 3) = .5
  AdvantageInput input = paid({1, 0}, 2);
  input.length = integers({1, 3});
  check_close(rows_of("reinforce_pp", "{}", input), {.75 / .5001, -.25 / .5001}, 1e-12);
  // The group's mean off first: .5 and -.5, mean -.25, the same std.
  check_close(rows_of("reinforce_pp", "{baseline: group}", input), {.75 / .5001, -.25 / .5001}, 1e-12);
  // Discounted: 1; 0, 0, 0 stays, but with reward 2 in the second row its tokens are .5, 1, 2.
  input.total = doubles({1, 2});
  const AdvantageOutput out = plural::testing::estimate("reinforce_pp", "{gamma: 0.5}", input);
  // Tokens 1, .5, 1, 2: mean 1.125, std = sqrt((.125^2 * 2 + .625^2 + .875^2) / 3) = .6291529
  check_close(host(out.token), {-.125 / .6292529, -.625 / .6292529, -.125 / .6292529, .875 / .6292529}, 1e-6);
}

TEST_CASE("GDPO normalises each reward, then adds") {
  // Group of 3. Reward a = 1, 0, 0: mean 1/3, std .57735; b = 10, 30, 20 with weight .5: mean 20, std 10.
  AdvantageInput input = paid({6, 15, 10}, 3);
  input.part = at::stack({doubles({1, 0, 0}), doubles({10, 30, 20})}, 1);
  input.part_weight = doubles({1, .5});
  const double a = 1 / (std::sqrt(1.0 / 3) + 1e-4), b = .5 / 10.0001;
  const std::vector<double> sum = {a * 2 / 3 - 10 * b, -a / 3 + 10 * b, -a / 3};
  check_close(rows_of("gdpo", "{whiten: false}", input), sum, 1e-12);
  const double std = std::sqrt((sum[0] * sum[0] + sum[1] * sum[1] + sum[2] * sum[2]) / 2) + 1e-4;
  check_close(rows_of("gdpo", "{}", input), {sum[0] / std, sum[1] / std, sum[2] / std}, 1e-12);
  // A reward that does not apply to a row is not in its mean: 10 and 20 are left, std 7.0711.
  input.part_valid = booleans({1, 1, 1, 0, 1, 1}).view({3, 2});
  const double c = .5 / (std::sqrt(50.0) + 1e-4);
  check_close(rows_of("gdpo", "{whiten: false}", input), {a * 2 / 3 - 5 * c, -a / 3, -a / 3 + 5 * c}, 1e-12);
  // Equal but for rounding where it applies: exactly 0, whatever stands in the row that it does not apply to.
  AdvantageInput rounded = paid({.6, .6, .6, 0}, 4);
  rounded.part = doubles({.6, std::nextafter(.6f, 1.f), .6, 0}).view({4, 1}), rounded.part_weight = doubles({1});
  rounded.part_valid = booleans({1, 1, 1, 0}).view({4, 1});
  check_close(rows_of("gdpo", "{}", rounded), {0, 0, 0, 0}, 0);
  // All rewards equal within the group: exactly 0, though other groups are not.
  AdvantageInput two = paid({1, 1, 0, 1}, 2);
  two.part = doubles({1, 1, 0, 1}).view({4, 1}), two.part_weight = doubles({1});
  const auto got = rows_of("gdpo", "{}", two);
  CHECK(got[0] == 0.0);
  CHECK(got[1] == 0.0);
  CHECK(got[2] < 0);
}

TEST_CASE("pass@k in closed form: the specification's values, and brute force over all groups of k") {
  AdvantageInput input = paid({0, 0, 0, 0, 0, 0, 0, 0}, 8);
  input.correct = booleans({1, 0, 0, 1, 0, 0, 0, 0});
  check_close(rows_of("pass_at_k", "{k: 4}", input), two_of_eight(.522233, -.174078), 5e-7);
  for (int64_t n = 1; n <= 7; ++n)
    for (int64_t right = 0; right <= n; ++right)
      for (int64_t k = 1; k <= n; ++k) {
        INFO("n " << n << " right " << right << " k " << k);
        // Rewards of all groups of k, and their means over the groups with row 0 and with row n - 1.
        double sum = 0, square = 0, with_first = 0, with_last = 0, groups = 0, of_row = 0;
        for (uint64_t mask = 0; mask < (1u << n); ++mask) {
          if (__builtin_popcountll(mask) != k) continue;
          const double reward = (mask & ((1u << right) - 1)) != 0 ? 1 : 0;
          sum += reward, square += reward * reward, ++groups;
          if (mask & 1) with_first += reward, ++of_row;
          if (mask >> (n - 1) & 1) with_last += reward;
        }
        const double mean = sum / groups, std = std::sqrt(square / groups - mean * mean);
        std::vector<int64_t> correct(static_cast<size_t>(n), 0);
        std::fill_n(correct.begin(), right, 1);
        AdvantageInput group = paid(std::vector<double>(static_cast<size_t>(n), 0.0), n);
        group.correct = booleans(correct);
        const auto got = rows_of("pass_at_k", "{k: " + std::to_string(k) + "}", group);
        const bool flat = mean < 1e-12 || mean > 1 - 1e-12;
        CHECK(got.front() == Approx(flat ? 0.0 : (with_first / of_row - mean) / std).margin(1e-9));
        CHECK(got.back() == Approx(flat ? 0.0 : (with_last / of_row - mean) / std).margin(1e-9));
        CHECK(std::accumulate(got.begin(), got.end(), 0.0) == Approx(0).margin(1e-9));
      }
}

TEST_CASE("PKPO: the specification's values, and brute force over all subsets") {
  const std::vector<double> r = {0, .25, .5, 1, .25, .75};
  const AdvantageInput input = paid(r, 6);
  check_close(rows_of("pkpo", "{k: 3, baseline: none}", input), {.375, .375, .3875, .5, .375, .425}, 1e-12);
  check_close(rows_of("pkpo", "{k: 3}", input), {0, 0, .0375, .2375, 0, .1125}, 1e-12);
  check_close(rows_of("pkpo", "{k: 3, baseline: loo}", input), {-.0625, -.0625, -.0375, .1875, -.0625, .0375}, 1e-12);
  for (int64_t k = 1; k <= 6; ++k) {
    INFO("k " << k);
    std::vector<double> with(6, 0), gain(6, 0), without(6, 0);
    double sets = 0, sets_without = 0;
    for (uint64_t mask = 0; mask < 64; ++mask) {
      if (__builtin_popcountll(mask) != k) continue;
      ++sets;
      const auto best = [&](uint64_t m) {
        double value = 0;
        for (size_t i = 0; i < 6; ++i)
          if (m >> i & 1) value = std::max(value, r[i]);
        return value;
      };
      if ((mask & 1) == 0) ++sets_without;
      for (size_t i = 0; i < 6; ++i) {
        if (mask >> i & 1) {
          with[i] += best(mask);
          gain[i] += best(mask) - best(mask & ~(uint64_t{1} << i));
        } else {
          without[i] += best(mask);
        }
      }
    }
    std::vector<double> none, loo_1, loo;
    for (size_t i = 0; i < 6; ++i) {
      none.push_back(with[i] / sets);
      loo_1.push_back(gain[i] / sets);
      if (k < 6) loo.push_back(with[i] / sets - static_cast<double>(k) / 6 * without[i] / sets_without);
    }
    const std::string head = "{k: " + std::to_string(k) + ", baseline: ";
    check_close(rows_of("pkpo", head + "none}", input), none, 1e-12);
    if (k > 1) check_close(rows_of("pkpo", head + "loo_1}", input), loo_1, 1e-12);
    if (k < 6) check_close(rows_of("pkpo", head + "loo}", input), loo, 1e-12);
    if (k == 1) check_close(rows_of("pkpo", head + "loo_1}", input), rows_of("pkpo", head + "loo}", input), 1e-12);
  }
  // k = n: the best row alone, by its distance to the next ("grpo_passk").
  check_close(rows_of("pkpo", "{k: 6}", input), {0, 0, 0, .25, 0, 0}, 1e-12);
  CHECK_THROWS_WITH(rows_of("pkpo", "{k: 7}", input), Catch::Contains("only 6 samples"));
  CHECK_THROWS_AS(rows_of("pkpo", "{k: 6, baseline: loo}", input), InputError);
}

TEST_CASE("max@k is PKPO's plain credit, z-scored") {
  const AdvantageInput input = paid({0, .25, .5, 1, .25, .75}, 6);
  // s = (.375, .375, .3875, .5, .375, .425): mean .40625, std .0490854
  const std::vector<double> s = {.375, .375, .3875, .5, .375, .425};
  double square = 0;
  for (double x : s) square += (x - .40625) * (x - .40625);
  std::vector<double> expected;
  for (double x : s) expected.push_back((x - .40625) / (std::sqrt(square / 5) + 1e-4));
  check_close(rows_of("max_at_k", "{k: 3}", input), expected, 1e-12);
}

TEST_CASE("max@k off-policy weighs every subset by 1 + the sum of its rows' excess ratios") {
  const std::vector<double> r = {0, .25, .5, 1, .25, .75}, d = {.1, -.2, .3, .05, -.4, .25};
  AdvantageInput input = paid(r, 6);
  input.sampler_log_prob = doubles({-3, -40, -.5, -7, -1, -2});
  input.log_prob = input.sampler_log_prob + (1 + doubles(d)).log();
  for (int64_t k = 1; k <= 6; ++k) {
    INFO("k " << k);
    std::vector<double> expected(6, 0);
    double sets = 0;
    for (uint64_t mask = 0; mask < 64; ++mask) {
      if (__builtin_popcountll(mask) != k) continue;
      double best = 0, weight = 1;
      for (size_t i = 0; i < 6; ++i)
        if (mask >> i & 1) best = std::max(best, r[i]), weight += d[i];
      ++sets;
      for (size_t i = 0; i < 6; ++i) expected[i] += mask >> i & 1 ? weight * best : 0;
    }
    for (double& s : expected) s /= sets;
    const std::string head = "{k: " + std::to_string(k) + ", z_score: false";
    check_close(rows_of("max_at_k", head + ", off_policy: true}", input), expected, 1e-12);
    // On the samples of the policy itself it is the plain form.
    AdvantageInput fresh = input;
    fresh.log_prob = fresh.sampler_log_prob;
    check_close(rows_of("max_at_k", head + ", off_policy: true}", fresh), rows_of("max_at_k", head + "}", fresh),
                1e-12);
  }
  // A row that became ten times as likely counts as twice, with the default cap.
  AdvantageInput far = paid({0, 1}, 2);
  far.sampler_log_prob = doubles({-5, -5}), far.log_prob = doubles({-5, -5 + std::log(10.0)});
  check_close(rows_of("max_at_k", "{k: 1, z_score: false, off_policy: true}", far), {0, 1}, 1e-12);
  check_close(rows_of("max_at_k", "{k: 1, z_score: false, off_policy: true, ratio_cap: 3}", far), {0, 1.5}, 1e-12);
  CHECK(builtin_advantages().make("max_at_k", parse_yaml("{off_policy: true}", "a.yaml"))->corrects_off_policy());
  CHECK_FALSE(builtin_advantages().make("max_at_k")->corrects_off_policy());
  CHECK_THROWS_AS(rows_of("max_at_k", "{k: 1, off_policy: true}", paid({0, 1}, 2)), CheckError);
}

TEST_CASE("a subset of all samples leaves every advantage at 0: a run refuses it") {
  const auto check = [](const std::string& name, const std::string& options, int64_t group) {
    builtin_advantages().make(name, parse_yaml(options, "a.yaml"))->check_sizes(group, 3);
  };
  for (const auto& [name, options] : std::vector<std::pair<std::string, std::string>>{
           {"pass_at_k", "{k: 4}"}, {"max_at_k", "{k: 4}"}, {"poly_epo", "{subset: 4}"}}) {
    INFO(name);
    CHECK_THROWS_WITH(check(name, options, 4), Catch::Contains("all advantages are 0"));
    CHECK_THROWS_WITH(check(name, options, 3), Catch::Contains("there are only 3 samples"));
    CHECK_NOTHROW(check(name, options, 5));
    AdvantageInput input = paid({0, 1, .5, 0}, 4);
    input.correct = booleans({0, 1, 1, 0}), input.mode = integers({0, 1, 2, 0});
    for (double a : rows_of(name, options, input)) CHECK(std::abs(a) < 1e-9);
  }
  CHECK_NOTHROW(check("max_at_k", "{k: 4, z_score: false}", 4));
  CHECK_NOTHROW(check("pkpo", "{k: 4, baseline: loo_1}", 4));
}

TEST_CASE("UCPO deals nothing out where all rows are correct: their advantages sum to 0") {
  for (const double first : {.1, .3}) {  // sums of either sign, in the last place
    INFO("first " << first);
    AdvantageInput input = paid({first, .5, .9, .4}, 4);
    input.correct = booleans({1, 1, 1, 1}), input.mode = integers({0, 1, 2, 0});
    const double mean = (first + 1.8) / 4;
    check_close(rows_of("ucpo", "{}", input), {first - mean, .5 - mean, .9 - mean, .4 - mean}, 1e-12);
  }
}

TEST_CASE("DARLING refuses rewards below 0, which it would spare where they are repeated") {
  AdvantageInput input = paid({-1, -1, -1, -1}, 4);
  input.mode = integers({0, 0, 0, 1});
  CHECK_THROWS_WITH(rows_of("darling", "{}", input), Catch::Contains("rewards of at least 0"));
}

TEST_CASE("Poly-EPO: the specification's values, and brute force over all sets") {
  AdvantageInput input = paid({1, 1, 0, 1, 0, 0, 0, 1}, 8);
  input.mode = integers({0, 0, 1, 2, 1, 3, 0, 0});
  check_close(rows_of("poly_epo", "{subset: 4}", input),
              {.022321, .022321, -.036607, .091964, -.036607, -.008036, -.077679, .022321}, 5e-7);
  const std::vector<double> r = {.3, 1, .2, .7, 0, .5};
  const std::vector<int64_t> mode = {0, 2, 0, -1, -1, 1};
  AdvantageInput other = paid(r, 6);
  other.mode = integers(mode);
  for (int64_t m = 1; m <= 6; ++m) {
    INFO("m " << m);
    std::vector<double> with(6, 0), sets_with(6, 0);
    double all = 0, sets = 0;
    for (uint64_t mask = 0; mask < 64; ++mask) {
      if (__builtin_popcountll(mask) != m) continue;
      double reward = 0;
      uint64_t seen = 0;
      for (size_t i = 0; i < 6; ++i) {
        if (!(mask >> i & 1)) continue;
        reward += r[i];
        if (mode[i] >= 0) seen |= uint64_t{1} << mode[i];
      }
      const double f = reward / static_cast<double>(m) * __builtin_popcountll(seen) / static_cast<double>(m);
      all += f, ++sets;
      for (size_t i = 0; i < 6; ++i)
        if (mask >> i & 1) with[i] += f, ++sets_with[i];
    }
    std::vector<double> expected;
    for (size_t i = 0; i < 6; ++i) expected.push_back(with[i] / sets_with[i] - all / sets);
    check_close(rows_of("poly_epo", "{subset: " + std::to_string(m) + "}", other), expected, 1e-12);
  }
}

TEST_CASE("SetPO pays what a row adds to the diversity, if it is correct") {
  AdvantageInput input = paid({1, 1, 1, 1, 1, 1, 1, 1}, 8);
  input.mode = integers({5, 5, 5, 5, 7, 7, 7, 2});
  input.correct = booleans({1, 1, 1, 1, 1, 1, 1, 0});
  // The specification's D for counts (4, 3, 1), less their mean.
  const double mean = (4 * -.012078 + 3 * .012282 + .074262) / 8;
  const double four = -.012078 - mean, three = .012282 - mean, one = .074262 - mean;
  check_close(rows_of("setpo", "{gate: false}", input), {four, four, four, four, three, three, three, one}, 1e-6);
  check_close(rows_of("setpo", "{lambda: 2}", input),
              {2 * four, 2 * four, 2 * four, 2 * four, 2 * three, 2 * three, 2 * three, 0}, 2e-6);
  // g = 1 - u: U = 1 - sum of squared shares.
  const double u = 1 - (16 + 9 + 1) / 64.0;
  const std::vector<double> d = {u - (1 - (9 + 9 + 1) / 49.0), u - (1 - (16 + 4 + 1) / 49.0),
                                 u - (1 - (16 + 9) / 49.0)};
  const double centre = (4 * d[0] + 3 * d[1] + d[2]) / 8;
  const auto got = rows_of("setpo", "{gate: false, g: linear}", input);
  CHECK(got[0] == Approx(d[0] - centre).margin(1e-12));
  CHECK(got[4] == Approx(d[1] - centre).margin(1e-12));
  CHECK(got[7] == Approx(d[2] - centre).margin(1e-12));
}

TEST_CASE("DARLING scales a reward by how few rows say the same") {
  AdvantageInput input = paid({1, 1, 1, 1, 1, 1, 1, 1}, 8);
  input.mode = integers({5, 5, 5, 5, 7, 7, 7, 2});
  const double four = 4.0 / 7, three = 5.0 / 7, one = 1, mean = (4 * four + 3 * three + one) / 8;
  check_close(
      rows_of("darling", "{}", input),
      {four - mean, four - mean, four - mean, four - mean, three - mean, three - mean, three - mean, one - mean},
      1e-12);
  AdvantageInput same = paid({1, 0, 0, 0}, 4);
  same.mode = integers({1, 1, 1, 1});
  check_close(rows_of("darling", "{}", same), {.075, -.025, -.025, -.025}, 1e-12);  // floor .1
}

TEST_CASE("UCPO deals the correct rows' advantage out by mode") {
  // Mean .75: the correct rows have .25 each, together .75, for the modes 8, 8, 9.
  AdvantageInput input = paid({1, 1, 1, 0}, 4);
  input.correct = booleans({1, 1, 1, 0});
  input.mode = integers({8, 8, 9, 4});
  check_close(rows_of("ucpo", "{tau: 0}", input), {.25, .25, .25, -.75}, 1e-12);
  check_close(rows_of("ucpo", "{tau: 1}", input), {.1875, .1875, .375, -.75}, 1e-12);  // by mode: .375 each
  check_close(rows_of("ucpo", "{}", input), {.21875, .21875, .3125, -.75}, 1e-12);
  // Correct rows that are paid less than the wrong one have no advantage to share: a rare mode is not punished for it.
  input.total = doubles({0, 0, 0, 1});
  check_close(rows_of("ucpo", "{tau: 1}", input), {-.25, -.25, -.25, .75}, 1e-12);
}

TEST_CASE("mode coverage pays a row for the answers that it alone hits") {
  const AnswerBatch answers = make_sets({{0}, {1}, {1}, {-1}, {2}, {2}, {2}, {-1}});
  AdvantageInput input = paid({1, 1, 1, 0, 1, 1, 1, 0}, 4);
  input.answers = &answers;
  check_close(rows_of("mode_coverage", "{}", input), {1, 0, 0, 0, 0, 0, 0, 0}, 1e-12);
  check_close(rows_of("mode_coverage", "{weights: gold, reward_weight: 1}", input),
              {.5, .25, .25, -.75, .25, .25, .25, -.75}, 1e-12);
}

TEST_CASE("VPO: the best answer under random preferences") {
  // The specification's example, as one set of four and with each answer left out.
  const std::vector<double> a = {1, 0, 0, 1, .6, .6, .2, .2};
  std::vector<double> all;
  std::vector<int64_t> keep;
  for (int64_t left_out = -1; left_out < 4; ++left_out) {
    all.insert(all.end(), a.begin(), a.end());
    for (int64_t k = 0; k < 4; ++k) keep.push_back(k != left_out);
  }
  const auto sets = [&] { return doubles(all).view({5, 4, 2}); };
  const std::vector<std::vector<int64_t>> match(5, {0, 1, 2, 3});
  AnswerBatch answers = make_sets(match);
  answers.key = answers.key.masked_fill(booleans(keep).view({5, 4}).logical_not(), -1);
  AdvantageInput input;
  input.total = sets().sum({1, 2});
  input.samples_per_prompt = 5;
  input.vector = sets();
  input.answers = &answers;
  const std::vector<double> worth = {.76, .68, .68, .75, .76};
  const double mean = (.76 + .68 + .68 + .75 + .76) / 5;
  double square = 0;
  for (double w : worth) square += (w - mean) * (w - mean) / 5;
  std::vector<double> expected;
  for (double w : worth) expected.push_back((w - mean) / (std::sqrt(square) + 1e-6));
  check_close(rows_of("vpo", "{}", input), expected, 1e-9);
  // Three merits: E max of (w1, w2, w3) over the simplex is 11/18; of one answer (1, 1, 1) it is 1.
  const std::vector<std::vector<int64_t>> three(2, {0, 1, 2});
  AnswerBatch pair = make_sets(three);
  pair.key = at::where(booleans({1, 1, 1, 1, 0, 0}).view({2, 3}), pair.key, at::full_like(pair.key, -1));
  AdvantageInput unit;
  unit.vector = doubles({1, 0, 0, 0, 1, 0, 0, 0, 1, .6, .6, .6, 0, 0, 0, 0, 0, 0}).view({2, 3, 3});
  unit.total = unit.vector.sum({1, 2}) + doubles({0, 11.0 / 18 - .6});
  unit.samples_per_prompt = 2;
  unit.answers = &pair;
  // Both are worth 11/18, so the z-score is that of the quadrature's error alone.
  const auto got = rows_of("vpo", "{draws: 4096, std_floor: 1}", unit);
  CHECK(std::abs(got[0]) < 1e-3);
}

TEST_CASE("VPO: what is missing to K answers has no merit; differences below 1e-6 count as none") {
  // One prompt, K = 2. A full set of merits (-1, -1) and (-1, -1) is worth -1, and so would be one of them alone: the
  // missing one, of merit (0, 0), is better. The third set says the same answer twice, which is one answer.
  AnswerBatch answers = make_sets({{0, 1}, {0, -1}, {0, 0}});
  answers.key = at::tensor(std::vector<int64_t>{0, 1, 0, -1, 0, 0}).view({3, 2}).to(answers.key.device());
  AdvantageInput input;
  input.vector = doubles({-1, -1, -1, -1, -1, -1, 0, 0, -1, -1, -1, -1}).view({3, 2, 2});
  input.total = input.vector.sum({1, 2});
  input.samples_per_prompt = 3;
  input.answers = &answers;
  const double std = std::sqrt(2.0) / 3;
  check_close(rows_of("vpo", "{}", input), {-2.0 / 3 / (std + 1e-6), 1.0 / 3 / (std + 1e-6), 1.0 / 3 / (std + 1e-6)},
              1e-9);

  AnswerBatch one = make_sets({{0}, {0}});
  AdvantageInput small;
  small.vector = doubles({0, 0, 3e-6, 3e-6}).view({2, 1, 2});  // std 1.5e-6
  small.total = small.vector.sum({1, 2});
  small.samples_per_prompt = 2;
  small.answers = &one;
  CHECK(rows_of("vpo", "{}", small)[1] == Approx(1.5 / 2.5));
  small.vector = small.vector / 2;  // std .75e-6
  small.total = small.total / 2;
  CHECK(rows_of("vpo", "{}", small) == std::vector<double>{0, 0});
}

TEST_CASE("modes: equal sets of answers, whatever their order") {
  AnswerBatch answers = make_sets({{0, 1}, {1, 0}, {0, 0}, {-1, -1}, {0, 1}, {-1, 0}});
  answers.sets.resize(6);
  for (auto& set : answers.sets) set.answers.resize(2);
  answers.sets[3].answers[0].normal = "cow", answers.sets[3].answers[1].normal = "ant";
  answers.sets[5].answers[0].normal = "";
  const auto mode = host(completion_modes(answers, 6));
  CHECK(mode[0] == mode[1]);
  CHECK(mode[0] == mode[4]);
  CHECK(mode[2] != mode[0]);
  CHECK(mode[2] == mode[5]);  // an empty answer says nothing
  CHECK(mode[3] != mode[2]);
  // Whatever bytes a model writes, other answers are other modes.
  AnswerBatch strange = make_sets({{0, -1}, {-1, -1}, {-1, -1}, {-1, -1}});
  strange.sets.resize(4);
  for (auto& set : strange.sets) set.answers.resize(2);
  strange.sets[1].answers[0].normal =
      "\x01"
      "0";
  strange.sets[2].answers[0].normal = "cow", strange.sets[2].answers[1].normal = "dog";
  strange.sets[3].answers[0].normal =
      "cow\x02"
      "dog";
  CHECK(host(completion_modes(strange, 4)) == std::vector<double>{0, 1, 2, 3});
  answers.present = at::zeros_like(answers.present);
  CHECK(host(completion_modes(answers, 3))[0] == -1);
}

TEST_CASE("UCPO by likelihood: what is rarely written gains most") {
  // Likelihoods a token of the correct rows: 1/2, 1/4, 1/4, so v = 2, 4, 4 of 10. M = 3 x .25.
  AdvantageInput input = paid({1, 1, 1, 0}, 4);
  input.correct = booleans({1, 1, 1, 0});
  input.length = integers({2, 1, 4, 1});
  input.sampler_log_prob = doubles({2 * std::log(.5), std::log(.25), 4 * std::log(.25), -1});
  check_close(rows_of("ucpo", "{tau: 1, rarity: likelihood}", input), {.15, .3, .3, -.75}, 1e-12);
  check_close(rows_of("ucpo", "{tau: 0.3, rarity: likelihood}", input), {.22, .265, .265, -.75}, 1e-12);
  check_close(rows_of("ucpo", "{tau: 0, rarity: likelihood}", input), {.25, .25, .25, -.75}, 1e-12);
  // A completion so unlikely that 1 / likelihood overflows takes it all.
  input.sampler_log_prob = doubles({-2000, -1, -4, -1e5});
  check_close(rows_of("ucpo", "{tau: 1, rarity: likelihood}", input), {.75, 0, 0, -.75}, 1e-12);
  // No correct row: nothing to deal out.
  AdvantageInput wrong = paid({.4, 0}, 2);
  wrong.correct = booleans({0, 0}), wrong.length = integers({1, 1}), wrong.sampler_log_prob = doubles({-1, -2});
  check_close(rows_of("ucpo", "{rarity: likelihood}", wrong), {.2, -.2}, 1e-12);
  wrong.sampler_log_prob.reset();
  CHECK_THROWS_WITH(rows_of("ucpo", "{rarity: likelihood}", wrong), Catch::Contains("sampler_log_prob"));
}

namespace {

// A prompt with six rows that differ in everything an estimator may look at, in any order.
class SixRows {
 public:
  explicit SixRows(const std::vector<size_t>& order) {
    const std::vector<double> reward = {.3, 1, .2, .7, 0, .5};
    const std::vector<int64_t> mode = {0, 2, 0, 1, 1, 1}, correct = {1, 1, 0, 1, 0, 1}, length = {3, 1, 4, 1, 5, 9};
    const std::vector<std::vector<int64_t>> match = {{0, -1}, {1, 0}, {-1, -1}, {2, 2}, {-1, 1}, {3, -1}};
    std::vector<double> total, sampled, now, part, vector, value;
    std::vector<int64_t> modes, rights, applies;
    std::vector<std::vector<int64_t>> matches;
    for (size_t i : order) {
      const auto place = static_cast<double>(i);
      total.push_back(reward[i]), modes.push_back(mode[i]), rights.push_back(correct[i]), matches.push_back(match[i]);
      length_.push_back(length[i]);
      sampled.push_back(-1.0 - place), now.push_back(-1.0 - .9 * place);
      part.push_back(reward[i]), part.push_back(std::cos(place));
      applies.push_back(1), applies.push_back(i != 2);
      for (double k = 0; k < 4; ++k) vector.push_back(std::abs(std::sin(place + k)));
      for (int64_t t = 0; t < length[i]; ++t) value.push_back(std::sin(place + 2.0 * static_cast<double>(t)));
    }
    answers_ = make_sets(matches);
    input_ = paid(total, 6);
    input_.sampler_log_prob = doubles(sampled), input_.log_prob = doubles(now);
    input_.mode = integers(modes), input_.correct = booleans(rights), input_.length = integers(length_);
    input_.part = doubles(part).view({6, 2}), input_.part_valid = booleans(applies).view({6, 2});
    input_.part_weight = doubles({1, .4});
    input_.vector = doubles(vector).view({6, 2, 2});
    input_.value = doubles(value);
    input_.greedy_total = doubles({.6});
    input_.answers = &answers_;
    input_.score_subset = [this](const Tensor& keep) {
      return plural::testing::weighted_coverage(answers_, {1, .5, .25, 2}, keep);
    };
  }
  SixRows(const SixRows&) = delete;
  SixRows& operator=(const SixRows&) = delete;

  // The advantage of every row, and those of its tokens after it where they differ.
  std::vector<std::vector<double>> estimate(const std::string& name, const std::string& options) const {
    const AdvantageOutput out = plural::testing::estimate(name, options, input_);
    std::vector<std::vector<double>> rows;
    for (double a : host(out.row)) rows.push_back({a});
    if (!out.token.defined()) return rows;
    const std::vector<double> token = host(out.token);
    auto next = token.begin();
    for (size_t i = 0; i < rows.size(); ++i) {
      const int64_t tokens = name == "set_credit" ? 4 : length_[i];  // thinking, two answers, end: `make_sets`
      rows[i].insert(rows[i].end(), next, next + tokens);
      next += tokens;
    }
    REQUIRE(next == token.end());
    return rows;
  }

 private:
  std::vector<int64_t> length_;
  AnswerBatch answers_;
  AdvantageInput input_;
};

}  // namespace

TEST_CASE("advantages move with their rows") {
  const std::vector<size_t> order = {4, 2, 0, 5, 1, 3};
  const SixRows straight({0, 1, 2, 3, 4, 5}), mixed(order);
  for (const auto& [name, options] :
       std::vector<std::pair<std::string, std::string>>{{"grpo", "{scale: group}"},
                                                        {"rloo", "{}"},
                                                        {"opo", "{}"},
                                                        {"maxrl", "{}"},
                                                        {"remax", "{}"},
                                                        {"reinforce_pp", "{}"},
                                                        {"reinforce_pp", "{gamma: 0.9}"},
                                                        {"gdpo", "{}"},
                                                        {"gdpo", "{whiten: false}"},
                                                        {"pass_at_k", "{k: 2}"},
                                                        {"pkpo", "{k: 3}"},
                                                        {"max_at_k", "{k: 3}"},
                                                        {"max_at_k", "{k: 3, off_policy: true}"},
                                                        {"poly_epo", "{subset: 3}"},
                                                        {"setpo", "{}"},
                                                        {"darling", "{}"},
                                                        {"ucpo", "{}"},
                                                        {"ucpo", "{rarity: likelihood}"},
                                                        {"mode_coverage", "{}"},
                                                        {"mode_coverage", "{weights: gold, reward_weight: 0.3}"},
                                                        {"vpo", "{}"},
                                                        {"set_credit", "{}"},
                                                        {"set_credit", "{credit: all}"},
                                                        {"set_credit", "{credit: loo}"},
                                                        {"set_credit", "{credit: prefix}"},
                                                        {"set_credit", "{credit: shapley, mix: 0.5}"},
                                                        {"set_credit", "{scale: group}"},
                                                        {"gae", "{lambda: 0.8, gamma: 0.9}"},
                                                        {"gae", "{whiten: true}"}}) {
    INFO(name << " " << options);
    const auto a = straight.estimate(name, options), b = mixed.estimate(name, options);
    double low = a[0][0], high = low;
    for (size_t i = 0; i < 6; ++i) {
      INFO("row " << i);
      check_close(b[i], a[order[i]], 1e-12);
      low = std::min(low, a[i][0]), high = std::max(high, a[i][0]);
    }
    CHECK(high > low + .01);  // rows that are all the same could not be told apart
  }
}

TEST_CASE("GAE by hand") {
  // Two rows: rewards 0, 1 with values .5, .25, and reward 2 with value 1; gamma .9, lambda .8.
  const GaeOutput out = gae(doubles({0, 1, 2}), doubles({.5, .25, 1}), integers({2, 1}), {.gamma = .9, .lambda = .8});
  // delta_1 = 1 - .25 = .75; delta_0 = .9 * .25 - .5 = -.275, A_0 = -.275 + .72 * .75 = .265
  check_close(host(out.advantage), {.265, .75, 1}, 1e-12);
  check_close(host(out.returns), {.765, 1, 2}, 1e-12);
  // lambda = 1: the return less the value; lambda = 0: one step.
  check_close(host(gae(doubles({0, 1}), doubles({.5, .25}), integers({2}), {.gamma = 1, .lambda = 1}).advantage),
              {.5, .75}, 1e-12);
  check_close(host(gae(doubles({0, 1}), doubles({.5, .25}), integers({2}), {.gamma = 1, .lambda = 0}).advantage),
              {-.25, .75}, 1e-12);
  CHECK_THROWS_AS(gae(doubles({1, 2}), doubles({1, 2}), integers({3}), {}), CheckError);
}

namespace {

// sum_l (gamma lambda)^l delta_{t+l} as it stands, for one row.
std::vector<double> gae_by_definition(const std::vector<double>& r, const std::vector<double>& v, double gamma,
                                      double lambda) {
  std::vector<double> advantage;
  for (size_t t = 0; t < r.size(); ++t) {
    double sum = 0;
    for (size_t l = 0; t + l < r.size(); ++l) {
      const double next = t + l + 1 < r.size() ? v[t + l + 1] : 0;
      sum += std::pow(gamma * lambda, l) * (r[t + l] + gamma * next - v[t + l]);
    }
    advantage.push_back(sum);
  }
  return advantage;
}

}  // namespace

TEST_CASE("advantage gae pays a row at its last token, and what is paid earlier where it is") {
  AdvantageInput input = paid({1, 7, 2}, 1);
  input.length = integers({2, 0, 1});  // nothing can be credited to a row without tokens
  input.value = doubles({.5, .25, 1});
  AdvantageOutput out = testing::estimate("gae", "{gamma: 0.9, lambda: 0.8}", input);
  check_close(host(out.token), {.265, .75, 1}, 1e-12);  // as above
  check_close(host(out.returns), {.765, 1, 2}, 1e-12);
  check_close(host(out.row), {.5075, 0, 1}, 1e-12);

  // -.1 and .3 are paid at their tokens, what is left of the total (1 + .1 - .3) at the end: r = -.1, .3 + .8.
  input.token_reward = doubles({-.1, .3, .5});
  out = testing::estimate("gae", "{gamma: 0.9, lambda: 0.8}", input);
  std::vector<double> expected = gae_by_definition({-.1, 1.1}, {.5, .25}, .9, .8);
  expected.push_back(1);
  check_close(host(out.token), expected, 1e-12);

  at::manual_seed(4);
  const std::vector<int64_t> lengths = {5, 1, 8};
  input = paid({.5, -1, 2}, 3);
  input.length = integers(lengths);
  input.value = at::randn({14}, at::kDouble).to(test_device());
  const std::vector<double> value = host(input.value), total = host(input.total);
  for (const bool whiten : {false, true}) {
    expected.clear();
    auto next = value.begin();
    for (size_t b = 0; b < lengths.size(); ++b) {
      std::vector<double> r(static_cast<size_t>(lengths[b]), 0);
      r.back() = total[b];
      for (double a : gae_by_definition(r, {next, next + lengths[b]}, .97, .6)) expected.push_back(a);
      next += lengths[b];
    }
    if (whiten) {
      double mean = 0, square = 0;
      for (double a : expected) mean += a / 14;
      for (double a : expected) square += (a - mean) * (a - mean) / 13;
      for (double& a : expected) a = (a - mean) / (std::sqrt(square) + 1e-4);
    }
    out = testing::estimate("gae", whiten ? "{gamma: 0.97, lambda: 0.6, whiten: true}" : "{gamma: 0.97, lambda: 0.6}",
                            input);
    check_close(host(out.token), expected, 1e-12);
  }
  input.value = Tensor();
  CHECK_THROWS_WITH(testing::estimate("gae", "{}", input), Catch::Contains("critic"));
  CHECK(builtin_advantages().make("gae")->needs_value());
  CHECK_FALSE(builtin_advantages().make("grpo")->needs_value());
}

TEST_CASE("a broken reward is seen, not hidden") {
  for (const float broken : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    for (const std::string name : {"grpo", "rloo", "opo", "maxrl", "reinforce_pp"}) {
      INFO(name << " " << broken);
      CHECK_FALSE(std::isfinite(estimate(name, "{}", {broken, 1}, 2)[0]));
    }
    AdvantageInput greedy = paid({broken, 1}, 2);
    greedy.greedy_total = doubles({.5});
    CHECK_FALSE(std::isfinite(rows_of("remax", "{}", greedy)[0]));
    const AnswerBatch answers = make_sets({{0}, {1}});
    AdvantageInput sets = paid({broken, 1}, 2);
    sets.answers = &answers;
    CHECK_FALSE(std::isfinite(rows_of("set_credit", "{credit: all}", sets)[0]));
  }
}

TEST_CASE("names, options and shapes are checked") {
  CHECK_THROWS_WITH(builtin_advantages().make("grop"), Catch::Contains("grpo"));
  CHECK_THROWS_AS(builtin_advantages().make("grpo", parse_yaml("{scale: some}", "a.yaml")), InputError);
  CHECK_THROWS_AS(builtin_advantages().make("rloo", parse_yaml("{scale: group}", "a.yaml")), InputError);
  CHECK_THROWS_AS(estimate("grpo", "{}", {1, 2, 3}, 2), CheckError);
}
