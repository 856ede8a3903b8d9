// SPDX-License-Identifier: Apache-2.0
// Parts of an evaluation as JSON: one spelling for `plural metrics` and metrics.json. NaN is written as null.
#pragma once

#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "plural/evaluation.h"

namespace plural::eval {

/// {name: [low, high]}
nlohmann::ordered_json to_json(const std::map<std::string, Interval>& intervals);
/// [{"low", "high", "count", "confidence", "accuracy", "accuracy_interval": [low, high]}]
nlohmann::ordered_json to_json(const std::vector<ReliabilityBin>& bins);
/// [{`label`: group, "count", "accuracy", "mean_confidence", "brier", "ece"}]
nlohmann::ordered_json to_json(const char* label, const std::vector<GroupCalibration>& groups);
/// [{"answers", "tokens", "distinct_correct", "unique", "recall"}]
nlohmann::ordered_json to_json(const std::vector<CoveragePoint>& curve);

}  // namespace plural::eval
