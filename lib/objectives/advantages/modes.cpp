// SPDX-License-Identifier: Apache-2.0
// Which completions of a group say the same: what diversity between samples is counted in.
#include <ATen/ATen.h>

#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

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
  // An answer is the gold answer it matches, or -1 and its normal form.
  std::map<std::set<std::pair<int64_t, std::string>>, int64_t> known;
  for (int64_t b = 0; b < answers.rows; ++b) {
    if (b % samples_per_prompt == 0) known.clear();
    const auto& set = answers.sets[static_cast<size_t>(b)].answers;
    std::set<std::pair<int64_t, std::string>> names;
    for (int64_t k = 0; k < static_cast<int64_t>(set.size()); ++k) {
      if (!written[b][k]) continue;
      const std::string& normal = set[static_cast<size_t>(k)].normal;
      if (gold[b][k] >= 0)
        names.emplace(gold[b][k], "");
      else if (!normal.empty())
        names.emplace(-1, normal);
    }
    const auto next = static_cast<int64_t>(known.size());
    modes.push_back(names.empty() ? -1 : known.emplace(std::move(names), next).first->second);
  }
  return at::tensor(modes, at::kLong).to(answers.match.device());
}

}  // namespace plural
