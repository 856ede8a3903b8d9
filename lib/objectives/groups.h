// SPDX-License-Identifier: Apache-2.0
// Rewards seen as groups of G rows: what every group-relative estimator starts from.
#pragma once

#include "plural/advantage.h"

namespace plural {

struct Groups {
  Tensor reward;   ///< [P, G] float64
  Tensor centred;  ///< [P, G] float64: reward - group mean; exactly 0 in an all-equal group
  Tensor varied;   ///< [P, 1] bool: the group's rewards differ by more than rounding
};

/// Splits group-major totals into groups; B must be a multiple of G.
Groups split_groups(const AdvantageInput& input);

/// [P, G] float64 -> what an estimator returns, zeroed where the group does not vary.
AdvantageOutput join_groups(const Groups& groups, const Tensor& advantage);

}  // namespace plural
