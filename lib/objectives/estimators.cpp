// SPDX-License-Identifier: Apache-2.0
#include "lib/objectives/estimators.h"

namespace plural {

Registry<AdvantageEstimator> builtin_advantages() {
  Registry<AdvantageEstimator> registry("advantage");
  add_grpo(registry);
  add_rloo(registry);
  return registry;
}

}  // namespace plural
