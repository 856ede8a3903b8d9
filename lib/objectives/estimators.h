// SPDX-License-Identifier: Apache-2.0
// The bundled advantage estimators: one file and one line here and in estimators.cpp each.
#pragma once

#include "plural/advantage.h"

namespace plural {

void add_grpo(Registry<AdvantageEstimator>& registry);
void add_rloo(Registry<AdvantageEstimator>& registry);

/// Registers `Estimator`, built from `Options` that are read from the entry's YAML node.
template <class Estimator, class Options>
void add_estimator(Registry<AdvantageEstimator>& registry, const std::string& name, const std::string& help) {
  registry.add(
      name, help,
      [](const ConfigNode& node) { return std::make_unique<Estimator>(read_options<Options>(node, "advantage")); },
      describe_options<Options>());
}

}  // namespace plural
