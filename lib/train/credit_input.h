// SPDX-License-Identifier: Apache-2.0
// What a reward stack found, as an advantage estimator wants to see it.
#pragma once

#include "plural/advantage.h"
#include "plural/reward.h"

namespace plural {

/// Fills in everything but greedy_total. The subset scores of the result call the rewards again and hold references to
/// all three arguments.
AdvantageInput credit_input(const RewardStack& rewards, const RewardInput& input, const RewardStack::Result& result);

}  // namespace plural
