// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <map>

#include "plural/error.h"
#include "plural/trainer.h"

namespace plural {

namespace {

double stated(const ConfidenceTargets& confidences, double share, RandomStream& stream) {
  const std::vector<double>& levels = confidences.levels;
  if (confidences.source == "uniform") return levels[stream.below(levels.size())];
  const double wanted = std::pow(share, confidences.power);
  return *std::ranges::min_element(levels, {}, [&](double level) { return std::abs(level - wanted); });
}

}  // namespace

std::vector<StatedAnswer> draw_gold_answers(const Example& example, int64_t k, const ConfidenceTargets& confidences,
                                            RandomStream& stream) {
  PLURAL_CHECK(!confidences.levels.empty(), "at least one confidence to state is needed");
  struct Candidate {
    const std::string* text;
    double weight;
  };
  // Gold answers with one normal form are one answer: a set must not hold it twice.
  std::vector<Candidate> pool;
  std::map<std::string, size_t> seen;
  for (const GoldAnswer& gold : example.gold) {
    const std::string normal = normal_form(gold.answer);
    if (normal.empty()) continue;
    const double weight = gold.weight > 0 ? gold.weight : 1e-6;
    const auto [it, added] = seen.try_emplace(normal, pool.size());
    if (added)
      pool.push_back({&gold.answer, weight});
    else
      pool[it->second].weight += weight;
  }
  const auto total_weight = [&pool] {
    double total = 0;
    for (const Candidate& candidate : pool) total += candidate.weight;
    return total;
  };
  const double all = total_weight();
  std::vector<StatedAnswer> answers;
  while (static_cast<int64_t>(answers.size()) < k && !pool.empty()) {
    const double total = answers.empty() ? all : total_weight();
    double mark = stream.uniform() * total;
    size_t pick = 0;
    while (pick + 1 < pool.size() && mark >= pool[pick].weight) mark -= pool[pick++].weight;
    answers.push_back({*pool[pick].text, stated(confidences, pool[pick].weight / all, stream)});
    pool.erase(pool.begin() + static_cast<std::ptrdiff_t>(pick));
  }
  return answers;
}

}  // namespace plural
