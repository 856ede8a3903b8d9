// SPDX-License-Identifier: Apache-2.0
// The bundled advantage estimators: one file and one line here and in estimators.cpp each.
#pragma once

#include "plural/advantage.h"

namespace plural {

void add_darling(Registry<AdvantageEstimator>& registry);
void add_gae(Registry<AdvantageEstimator>& registry);
void add_gdpo(Registry<AdvantageEstimator>& registry);
void add_grpo(Registry<AdvantageEstimator>& registry);
void add_max_at_k(Registry<AdvantageEstimator>& registry);
void add_maxrl(Registry<AdvantageEstimator>& registry);
void add_mode_coverage(Registry<AdvantageEstimator>& registry);
void add_opo(Registry<AdvantageEstimator>& registry);
void add_pass_at_k(Registry<AdvantageEstimator>& registry);
void add_pkpo(Registry<AdvantageEstimator>& registry);
void add_poly_epo(Registry<AdvantageEstimator>& registry);
void add_reinforce_pp(Registry<AdvantageEstimator>& registry);
void add_remax(Registry<AdvantageEstimator>& registry);
void add_rloo(Registry<AdvantageEstimator>& registry);
void add_set_credit(Registry<AdvantageEstimator>& registry);
void add_setpo(Registry<AdvantageEstimator>& registry);
void add_ucpo(Registry<AdvantageEstimator>& registry);
void add_vpo(Registry<AdvantageEstimator>& registry);

/// Registers `Estimator`, built from `Options` that are read from the entry's YAML node.
template <class Estimator, class Options>
void add_estimator(Registry<AdvantageEstimator>& registry, const std::string& name, const std::string& help) {
  registry.add(
      name, help,
      [](const ConfigNode& node) { return std::make_unique<Estimator>(read_options<Options>(node, "advantage")); },
      describe_options<Options>());
}

/// Registers an estimator that has no options: any key is an error.
template <class Estimator>
void add_estimator(Registry<AdvantageEstimator>& registry, const std::string& name, const std::string& help) {
  registry.add(name, help, [](const ConfigNode& node) {
    ConfigReader(node, "advantage").finish();
    return std::make_unique<Estimator>();
  });
}

}  // namespace plural
