// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <limits>

#include "plural/advantage.h"
#include "plural/error.h"
#include "tests/support/catch.h"
#include "tests/support/device.h"

using namespace plural;

namespace {

std::vector<double> estimate(const std::string& name, const std::string& options, const std::vector<float>& total,
                             int64_t group) {
  const auto estimator = builtin_advantages().make(name, parse_yaml(options, "test.yaml"));
  AdvantageInput input;
  input.total = at::tensor(total, at::kFloat).to(test_device());
  input.samples_per_prompt = group;
  const Tensor row = estimator->estimate(input).row;
  REQUIRE(row.scalar_type() == at::kFloat);
  REQUIRE(row.device() == input.total.device());
  const Tensor host = row.to(at::kCPU, at::kDouble);
  return {host.const_data_ptr<double>(), host.const_data_ptr<double>() + host.numel()};
}

void check_close(const std::vector<double>& got, const std::vector<double>& expected, double tolerance) {
  REQUIRE(got.size() == expected.size());
  for (size_t i = 0; i < got.size(); ++i) {
    INFO("row " << i);
    CHECK(got[i] == Approx(expected[i]).margin(tolerance).epsilon(0));
  }
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
  for (const auto& [name, options] : std::vector<std::pair<std::string, std::string>>{
           {"grpo", "{}"}, {"grpo", "{scale: group}"}, {"grpo", "{scale: batch}"}, {"rloo", "{}"}}) {
    INFO(name << " " << options);
    for (double a : estimate(name, options, {.1f, .1f, .1f}, 3)) CHECK(a == 0.0);
    for (double a : estimate(name, options, {sum, other_order, sum}, 3)) CHECK(a == 0.0);
    for (double a : estimate(name, options, {7}, 1)) CHECK(a == 0.0);
    // A difference that means something is kept.
    CHECK(estimate(name, options, {.1f, .1f, .101f}, 3)[2] > 0);
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

TEST_CASE("a broken reward is seen, not hidden") {
  CHECK(std::isnan(estimate("grpo", "{}", {std::numeric_limits<float>::quiet_NaN(), 1}, 2)[1]));
}

TEST_CASE("names, options and shapes are checked") {
  CHECK_THROWS_WITH(builtin_advantages().make("grop"), Catch::Contains("grpo"));
  CHECK_THROWS_AS(builtin_advantages().make("grpo", parse_yaml("{scale: some}", "a.yaml")), InputError);
  CHECK_THROWS_AS(builtin_advantages().make("rloo", parse_yaml("{scale: group}", "a.yaml")), InputError);
  CHECK_THROWS_AS(estimate("grpo", "{}", {1, 2, 3}, 2), CheckError);
}
