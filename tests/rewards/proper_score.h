// SPDX-License-Identifier: Apache-2.0
// Whether a reward for confidences is truthful, read off its values on a grid: nothing about its formula is assumed.
#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include "tests/rewards/reward_fixture.h"

namespace plural::testing {

/// Values of one answer (K = 1) with confidence 0, 1/n, 2/n, ..., 1: where it is right and where it is wrong.
struct ScoreGrid {
  std::vector<double> right, wrong;

  ScoreGrid(const std::string& reward, const std::string& options, int n = 100)
      : right(column("cat", reward, options, n)), wrong(column("cow", reward, options, n)) {}

  double confidence(size_t i) const { return static_cast<double>(i) / static_cast<double>(right.size() - 1); }
  /// Expected value of stating confidence i when the answer is right with probability p.
  double expected(double p, size_t i) const { return p * right[i] + (1 - p) * wrong[i]; }

 private:
  static std::vector<double> column(const std::string& answer, const std::string& reward, const std::string& options,
                                    int n) {
    std::vector<std::string> completions;
    for (int i = 0; i <= n; ++i) completions.push_back(write_set({{answer, fmt::format("{}", double(i) / n)}}));
    return Scored(animals(), completions, 1).rows(reward, options);
  }
};

/// For every p of the grid from `first` on, no confidence is worth more than p.
inline void check_truthful(const ScoreGrid& grid, size_t first = 0) {
  const size_t last = grid.right.size() - 1 - first;
  for (size_t truth = first; truth <= last; ++truth) {
    const double p = grid.confidence(truth);
    INFO("probability " << p);
    for (size_t i = 0; i <= grid.right.size() - 1; ++i)
      if (i + 1 < truth || i > truth + 1) REQUIRE(grid.expected(p, i) < grid.expected(p, truth));
    // Next to the best, float32 may round both to the same number.
    for (const size_t i : {truth - 1, truth + 1})
      if (i < grid.right.size()) REQUIRE(grid.expected(p, i) < grid.expected(p, truth) + 1e-6);
  }
}

/// The least probability of being right, of those on the grid, for which an honest try is worth as much as a sure miss
/// with confidence 0, and so are all above it; 0 when no try is worth less.
inline double refusal_threshold(const ScoreGrid& grid) {
  size_t i = grid.right.size();
  while (i > 0 && grid.expected(grid.confidence(i - 1), i - 1) > grid.wrong[0] - 1e-6) --i;
  return grid.confidence(i);
}

}  // namespace plural::testing
