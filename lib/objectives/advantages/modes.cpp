// SPDX-License-Identifier: Apache-2.0
// Which completions of a group say the same: what diversity between samples is counted in.
#include <ATen/ATen.h>

#include <set>
#include <string>
#include <unordered_map>

#include "plural/advantage.h"
#include "plural/error.h"

namespace plural {

Tensor completion_modes(const AnswerBatch& answers, int64_t samples_per_prompt) {
  PLURAL_CHECK(static_cast<int64_t>(answers.sets.size()) == answers.rows, "modes need the host's view of the answers");
  PLURAL_CHECK(samples_per_prompt >= 1, "samples_per_prompt is at least 1");
  const Tensor match = answers.match.to(at::kCPU), present = answers.present.to(at::kCPU);
  const auto gold = match.accessor<int64_t, 2>();
  const auto written = present.accessor<bool, 2>();
  std::vector<int64_t> modes;
  std::unordered_map<std::string, int64_t> known;
  for (int64_t b = 0; b < answers.rows; ++b) {
    if (b % samples_per_prompt == 0) known.clear();
    const auto& set = answers.sets[static_cast<size_t>(b)].answers;
    std::set<std::string> names;
    for (int64_t k = 0; k < static_cast<int64_t>(set.size()); ++k) {
      if (!written[b][k]) continue;
      // A normal form has no control characters, so the two kinds of name never meet.
      const std::string& normal = set[static_cast<size_t>(k)].normal;
      if (gold[b][k] >= 0)
        names.insert(std::string(1, '\x01').append(std::to_string(gold[b][k])));
      else if (!normal.empty())
        names.insert(normal);
    }
    std::string all;
    for (const std::string& name : names) all.append(name).push_back('\x02');
    modes.push_back(names.empty() ? -1 : known.emplace(all, static_cast<int64_t>(known.size())).first->second);
  }
  return at::tensor(modes, at::kLong).to(answers.match.device());
}

}  // namespace plural
