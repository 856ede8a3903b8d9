// SPDX-License-Identifier: Apache-2.0
#include "lib/eval/evaluation_json.h"

namespace plural::eval {

using Json = nlohmann::ordered_json;

Json to_json(const std::map<std::string, Interval>& intervals) {
  Json json = Json::object();
  for (const auto& [name, interval] : intervals) json[name] = {interval.low, interval.high};
  return json;
}

Json to_json(const std::vector<ReliabilityBin>& bins) {
  Json json = Json::array();
  for (const ReliabilityBin& bin : bins)
    json.push_back({{"low", bin.low},
                    {"high", bin.high},
                    {"count", bin.count},
                    {"confidence", bin.mean_confidence},
                    {"accuracy", bin.mean_correct},
                    {"accuracy_interval", {bin.correct_interval.low, bin.correct_interval.high}}});
  return json;
}

Json to_json(const std::vector<CoveragePoint>& curve) {
  Json json = Json::array();
  for (const CoveragePoint& point : curve)
    json.push_back({{"answers", point.answers},
                    {"tokens", point.tokens},
                    {"distinct_correct", point.distinct_correct},
                    {"unique", point.unique},
                    {"recall", point.recall}});
  return json;
}

Json to_json(const char* label, const std::vector<GroupCalibration>& groups) {
  Json json = Json::array();
  for (const GroupCalibration& group : groups)
    json.push_back({{label, group.group},
                    {"count", group.count},
                    {"accuracy", group.accuracy},
                    {"mean_confidence", group.mean_confidence},
                    {"brier", group.brier},
                    {"ece", group.ece}});
  return json;
}

}  // namespace plural::eval
