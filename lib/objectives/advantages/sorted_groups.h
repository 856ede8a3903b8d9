// SPDX-License-Identifier: Apache-2.0
// Sums over the k-subsets of a group by the rank of each reward: what the estimators of the best of k samples share.
// Sorted tensors are [P, n] float64, ascending; places count from 0.
#pragma once

#include <ATen/ATen.h>

#include <vector>

#include "lib/objectives/advantages/groups.h"

namespace plural {

/// [n]: a number for each place, on the device of `sorted` [P, n].
template <class OfPlace>
Tensor place_weights(const Tensor& sorted, const OfPlace& of_place) {
  std::vector<double> values;
  for (int64_t j = 0; j < sorted.size(1); ++j) values.push_back(of_place(j));
  return at::tensor(values, at::kDouble).to(sorted.device());
}

/// [P, n] -> [P, n]: sum of the entries before / after each place.
inline Tensor sum_before(const Tensor& x) { return x.cumsum(1) - x; }
inline Tensor sum_after(const Tensor& x) { return x.sum(1, true) - x.cumsum(1); }

/// s_a = [C(a, k-1) g_a + sum_{j > a} C(j-1, k-2) g_j] / C(n, k): the sum over the k-subsets with a of their maximum,
/// over the number of all k-subsets.
inline Tensor subset_max(const Tensor& g, int64_t k) {
  const Tensor own = place_weights(g, [&](int64_t a) { return choose(a, k - 1); });
  const Tensor other = place_weights(g, [&](int64_t j) { return choose(j - 1, k - 2); });
  return (own * g + sum_after(other * g)) / choose(g.size(1), k);
}

/// Sorts every group of `reward` [P, n], applies `credit` (sorted rewards and their order -> values in sorted order)
/// and puts the values back in place.
template <class Credit>
Tensor in_sorted_order(const Tensor& reward, const Credit& credit) {
  const auto [sorted, order] = reward.sort(1);
  return at::empty_like(reward).scatter_(1, order, credit(sorted, order));
}

}  // namespace plural
