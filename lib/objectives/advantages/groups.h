// SPDX-License-Identifier: Apache-2.0
// Rewards seen as groups of G rows: what every group-relative estimator starts from.
#pragma once

#include "plural/advantage.h"

namespace plural {

constexpr double kStdEps = 1e-4;  ///< added to every std, as TRL does (spec/official_rewards.md 5.3)

struct Groups {
  Tensor reward;           ///< [P, G] float64
  Tensor centred;          ///< [P, G] float64: reward - group mean; exactly 0 in an all-equal group
  Tensor varied;           ///< [P, 1] bool: the group's rewards differ by more than rounding
  at::ScalarType dtype{};  ///< of the totals, and so of the advantages

  int64_t size() const { return reward.size(1); }  ///< G
};

/// Splits group-major totals into groups; B must be a multiple of G.
Groups split_groups(const AdvantageInput& input);
/// The same for other rewards [B] of the same rows.
Groups split_groups(const AdvantageInput& input, const Tensor& reward);

/// [..] bool: a difference of numbers of that size is no more than what float32 rounding makes, 1e-6 x max(1, size).
/// False for NaN and infinities: a broken reward must show in the loss, not vanish.
Tensor is_rounding(const Tensor& difference, const Tensor& size);

/// [P, G] float64 -> what an estimator returns, zeroed where the group does not vary.
AdvantageOutput join_groups(const Groups& groups, const Tensor& advantage);
/// The same, every group kept.
AdvantageOutput join_all(const Groups& groups, const Tensor& advantage);

/// [P, 1] std of each group; `unbiased`: the n - 1 divisor. 0 for a group of one.
Tensor group_std(const Tensor& reward, bool unbiased);
/// Std (n - 1 divisor) over everything, []; 0 for a single number.
Tensor batch_std(const Tensor& reward);

/// [P, G] bool: the rows that are correct.
Tensor correct_rows(const AdvantageInput& input);
/// [P, G] int64: AdvantageInput::mode or what stands in for it.
Tensor row_modes(const AdvantageInput& input);
/// [P, G, G] bool: two rows of a group have the same mode. Unreadable rows (-1) are one mode.
Tensor same_mode(const AdvantageInput& input);
/// [P, G] float64: completion tokens of each row.
Tensor row_lengths(const AdvantageInput& input);

/// C(n, k) as a double, 0 for k < 0 or k > n; exact up to 2^53.
double choose(int64_t n, int64_t k);

/// Throws InputError when k > G. `name`: of the option, with the estimator before it. `otherwise`: not null = k = G is
/// refused, too, because then all advantages are 0; what else might be done about it.
void check_subset_size(const char* name, int64_t k, int64_t samples_per_prompt, const char* otherwise = nullptr);

}  // namespace plural
