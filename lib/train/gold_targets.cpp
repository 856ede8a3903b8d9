// SPDX-License-Identifier: Apache-2.0
#include <map>

#include "plural/error.h"
#include "plural/trainer.h"

namespace plural {

std::vector<StatedAnswer> draw_gold_answers(const Example& example, int64_t k, std::span<const double> confidences,
                                            RandomStream& stream) {
  PLURAL_CHECK(!confidences.empty(), "at least one confidence to state is needed");
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
  std::vector<StatedAnswer> answers;
  while (static_cast<int64_t>(answers.size()) < k && !pool.empty()) {
    double total = 0;
    for (const Candidate& candidate : pool) total += candidate.weight;
    double mark = stream.uniform() * total;
    size_t pick = 0;
    while (pick + 1 < pool.size() && mark >= pool[pick].weight) mark -= pool[pick++].weight;
    answers.push_back({*pool[pick].text, confidences[stream.below(confidences.size())]});
    pool.erase(pool.begin() + static_cast<std::ptrdiff_t>(pick));
  }
  return answers;
}

}  // namespace plural
