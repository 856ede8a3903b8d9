// SPDX-License-Identifier: Apache-2.0
#include "lib/objectives/advantages/estimators.h"

namespace plural {

Registry<AdvantageEstimator> builtin_advantages() {
  Registry<AdvantageEstimator> registry("advantage");
  add_darling(registry);
  add_gae(registry);
  add_gdpo(registry);
  add_grpo(registry);
  add_max_at_k(registry);
  add_maxrl(registry);
  add_mode_coverage(registry);
  add_opo(registry);
  add_pass_at_k(registry);
  add_pkpo(registry);
  add_poly_epo(registry);
  add_reinforce_pp(registry);
  add_remax(registry);
  add_rloo(registry);
  add_set_credit(registry);
  add_setpo(registry);
  add_ucpo(registry);
  add_vpo(registry);
  return registry;
}

}  // namespace plural
