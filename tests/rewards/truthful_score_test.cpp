// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <functional>

#include "tests/rewards/proper_score.h"

using namespace plural;
using namespace plural::testing;

namespace {

std::string scheme(const std::string& name, double k, double clip = 1.0 / 203) {
  return fmt::format("{{scheme: {}, k: {}, clip: {}}}", name, k, clip);
}

/// f(q) and g(q) of one answer.
std::vector<double> pair_at(const char* q, const std::string& options) {
  return Scored(animals(), {write_set({{"cat", q}}), write_set({{"cow", q}})}, 1).rows("truthful_score", options);
}

double margin(const std::string& options, int64_t k = 1) {
  return builtin_rewards().make("truthful_score", parse_yaml(options, "options"))->zero_confidence_margin(k, false);
}

}  // namespace

TEST_CASE("truthful_score: values of the schemes by hand") {
  check_close(pair_at("0.6", scheme("brier", 1)), {1 - 0.16, -0.36});
  check_close(pair_at("0.6", scheme("brier", 2)), {1 - 0.32, -0.72});
  check_close(pair_at("0.5", scheme("log", 1)), {1 - 0.693147181, -0.693147181});
  check_close(pair_at("0.5", scheme("brier_log", 1)), {0.5, 0.5 - 0.693147181});
  // A sure answer counts as 1 - clip on both sides.
  check_close(pair_at("1", scheme("brier_log", 1, 0.01)), {0.99, 0.99 - 4.605170186});
  // D = 2 ln 2 - 1 = 0.386294; f = (2 ln 1.5 - 0.5) / D, g = (ln 1.5 - 0.5) / D.
  check_close(pair_at("0.5", scheme("overconfidence", 1)), {0.310930216 / 0.386294361, -0.094534892 / 0.386294361});
  // E = 1 - ln 2 = 0.306853; f = (0.5 + ln 0.75) / E, g = (0.5 + 2 ln 0.75) / E.
  check_close(pair_at("0.5", scheme("underconfidence", 1)), {0.212317928 / 0.306852819, -0.075364145 / 0.306852819});
  check_close(pair_at("1", scheme("overconfidence", 3)), {1, (std::log(4.0) - 3) / (4 * std::log(4.0) - 3)});
  check_close(pair_at("1", scheme("underconfidence", 3)), {1, (3 + 4 * std::log(0.25)) / (3 - std::log(4.0))});
  check_close(pair_at("0", scheme("underconfidence", 3)), {0, 0});
}

TEST_CASE("truthful_score: both functions of a scheme come from one slope") {
  // f' = h (c - 1) and g' = h c with the h of the paper, summed from 0 to q by the midpoint rule.
  const double k = 2, d = (k + 1) * std::log(k + 1) - k, e = k - std::log(1 + k);
  const std::pair<const char*, std::function<double(double)>> schemes[] = {
      {"brier", [&](double) { return -2 * k; }},
      {"log", [&](double c) { return -k / (c * (1 - c)); }},
      {"brier_log", [&](double c) { return -1 / (1 - c); }},
      {"overconfidence", [&](double c) { return -k * k / ((c * k + 1) * d); }},
      {"underconfidence", [&](double c) { return -k * k / ((1 + k - k * c) * e); }}};
  for (const auto& [name, h] : schemes) {
    INFO(name);
    const auto low = pair_at("0.2", scheme(name, k)), high = pair_at("0.9", scheme(name, k));
    double f = 0, g = 0;
    const int pieces = 100'000;
    for (int i = 0; i < pieces; ++i) {
      const double c = 0.2 + 0.7 * (i + 0.5) / pieces;
      f += h(c) * (c - 1) * 0.7 / pieces;
      g += h(c) * c * 0.7 / pieces;
    }
    check_close({high[0] - low[0], high[1] - low[1]}, {f, g}, 1e-5);
  }
}

TEST_CASE("truthful_score: the best confidence is the probability of being right") {
  for (const char* name : {"brier", "overconfidence", "underconfidence"})
    for (const double k : {0.5, 1.0, 4.0}) {
      INFO(name << " " << k);
      check_truthful(ScoreGrid("truthful_score", scheme(name, k)));
    }
  check_truthful(ScoreGrid("truthful_score", scheme("brier_log", 1)));
  check_truthful(ScoreGrid("truthful_score", scheme("log", 1)), 1);
  check_truthful(ScoreGrid("truthful_score", scheme("log", 0.18)), 1);
}

TEST_CASE("truthful_score: what is worth less than a deliberate miss") {
  const auto threshold = [](const std::string& options) {
    return refusal_threshold(ScoreGrid("truthful_score", options, 1000));
  };
  CHECK(threshold(scheme("brier", 1)) == 0);
  CHECK(threshold(scheme("brier", 0.3)) == 0);
  CHECK(threshold(scheme("brier", 2)) == Approx(0.5).margin(1e-9));  // p - 2 p (1 - p) >= 0
  CHECK(threshold(scheme("log", 1, 1e-6)) == Approx(0.648).margin(1e-3));
  CHECK(threshold(scheme("log", 1 / std::log(202.0))) == 0);
  CHECK(threshold(scheme("brier_log", 1)) == 0);
  for (const double k : {0.5, 1.0, 4.0}) {
    CHECK(threshold(scheme("overconfidence", k)) == 0);
    CHECK(threshold(scheme("underconfidence", k)) == 0);
  }
}

TEST_CASE("truthful_score knows which of its schemes pay for deliberate misses") {
  CHECK(margin(scheme("brier", 1)) == Approx(0).margin(1e-12));
  CHECK(margin(scheme("brier", 2)) == Approx(-1));
  CHECK(margin(scheme("brier", 0.4), 3) == Approx(0.6 / 3));
  CHECK(margin(scheme("log", 1)) == Approx(1 - std::log(202.0)));
  CHECK(margin(scheme("log", 1 / std::log(202.0))) == Approx(0).margin(1e-9));
  const PartSpec gameable{"truthful_score", parse_yaml("{scheme: brier, k: 2}", "run.yaml")};
  const PartSpec safe{"truthful_score", parse_yaml("{}", "run.yaml")};
  CHECK(build_reward_stack({gameable}, builtin_rewards()).warnings(3).size() == 1);
  CHECK(build_reward_stack({safe}, builtin_rewards()).warnings(3).empty());
}

TEST_CASE("truthful_score of a set: the mean over K, silence is the worst forecast, gates take all") {
  const std::string open = "{sum_at_most_one: false, require_format: false, require_unique: false}";
  const Scored scored(animals(), {write_set({{"cat", "0.6"}, {"cow", "0.5"}}), ""});
  const auto out = scored.score("truthful_score", open);
  check_close(Scored::values(out.row), {(0.84 - 0.25 - 1) / 3, -1});
  check_close(Scored::values(out.per_answer[0]), {0.84 / 3, -0.25 / 3, -1.0 / 3});
  check_close(scored.rows("truthful_score"), {-1, -1});
  check_close(scored.subset("truthful_score", {true, false, false}, open), {0.84 / 3, -1.0 / 3});
  check_close(scored.subset("truthful_score", {false, false, false}, open), {0, 0});
}

TEST_CASE("truthful_score refuses unknown schemes and senseless parameters") {
  CHECK_THROWS_WITH(pair_at("0.5", "{scheme: honest}"), Catch::Contains("underconfidence"));
  CHECK_THROWS_AS(pair_at("0.5", "{k: 0}"), InputError);
  CHECK_THROWS_AS(pair_at("0.5", "{clip: 0}"), InputError);
}
