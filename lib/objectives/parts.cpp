// SPDX-License-Identifier: Apache-2.0
#include "lib/objectives/parts.h"

namespace plural {

namespace {

template <class Part>
Part find(const char* kind, const std::map<std::string, Part>& parts, const std::string& name) {
  const auto it = parts.find(name);
  if (it != parts.end()) return it->second;
  std::vector<std::string> names;
  for (const auto& [known, part] : parts) names.push_back(known);
  detail::throw_unknown_name(kind, name, names, {});
}

}  // namespace

RatioPart find_ratio(const std::string& name) {
  return find<RatioPart>(
      "ratio",
      {{"token", token_log_ratio}, {"sequence", sequence_log_ratio}, {"sequence_token", sequence_token_log_ratio}},
      name);
}

SurrogatePart find_surrogate(const std::string& name) {
  return find<SurrogatePart>("surrogate",
                             {{"ppo_clip", ppo_clip},
                              {"cispo", cispo},
                              {"sapo", sapo},
                              {"gmpo", gmpo},
                              {"dppo_tv", dppo_tv},
                              {"vespo", vespo},
                              {"reinforce", reinforce}},
                             name);
}

AggregationPart find_aggregation(const std::string& name) {
  return find<AggregationPart>("aggregation",
                               {{"dapo", dapo_weight},
                                {"grpo", grpo_weight},
                                {"dr_grpo", dr_grpo_weight},
                                {"bnpo", bnpo_weight},
                                {"luspo", luspo_weight}},
                               name);
}

KlPart find_kl(const std::string& name) {
  return find<KlPart>("kl", {{"k1", kl_k1}, {"k2", kl_k2}, {"k3", kl_k3}}, name);
}

}  // namespace plural
