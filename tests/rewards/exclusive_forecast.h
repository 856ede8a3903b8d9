// SPDX-License-Identifier: Apache-2.0
// Whether a reward for exclusive answers is truthful, by brute force over all forecasts on a grid.
#pragma once

#include <string>
#include <vector>

#include "tests/rewards/reward_fixture.h"

namespace plural::testing {

/// K = 3. For true probabilities (answer 1, answer 2, answer 3, none), no forecast on the grid is worth as much as
/// them.
inline void check_truthful_distribution(const std::string& reward, const std::string& options) {
  const int n = 10;
  std::vector<std::vector<int>> forecasts;  // in tenths
  for (int a = 0; a <= n; ++a)
    for (int b = 0; a + b <= n; ++b)
      for (int c = 0; a + b + c <= n; ++c) forecasts.push_back({a, b, c});
  // value[outcome][forecast]; the outcome is answer 0, 1 or 2, or none.
  std::vector<std::vector<double>> value;
  for (int outcome = 0; outcome < 4; ++outcome) {
    std::vector<std::string> completions;
    for (const auto& q : forecasts) {
      std::vector<Pair> pairs;
      for (int i = 0; i < 3; ++i)
        pairs.emplace_back(i == outcome ? "cat" : fmt::format("cow{}", i), fmt::format("{}", q[i] / 10.0));
      completions.push_back(write_set(pairs));
    }
    value.push_back(Scored(animals(), completions).rows(reward, options));
  }
  for (const auto& truth : forecasts) {
    const double p[] = {truth[0] / 10.0, truth[1] / 10.0, truth[2] / 10.0, (n - truth[0] - truth[1] - truth[2]) / 10.0};
    const auto expected = [&](size_t forecast) {
      double sum = 0;
      for (size_t outcome = 0; outcome < 4; ++outcome) sum += p[outcome] * value[outcome][forecast];
      return sum;
    };
    size_t honest = 0;
    while (forecasts[honest] != truth) ++honest;
    for (size_t forecast = 0; forecast < forecasts.size(); ++forecast) {
      INFO("truth " << fmt::format("{}", fmt::join(truth, " ")) << ", forecast "
                    << fmt::format("{}", fmt::join(forecasts[forecast], " ")));
      if (forecast != honest) REQUIRE(expected(forecast) < expected(honest) - 1e-4);
    }
  }
}

}  // namespace plural::testing
