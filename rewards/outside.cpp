// SPDX-License-Identifier: Apache-2.0
#include "rewards/outside.h"

#include <ATen/ATen.h>

#include <string_view>
#include <unordered_set>

#include "plural/error.h"

namespace plural::rewards {

std::vector<Slot> different_answers(const AnswerBatch& answers) {
  const Tensor first = answers.first_of_key().cpu(), nameless = answers.present.logical_and(answers.key.lt(0)).cpu();
  const auto is_first = first.accessor<bool, 2>(), is_nameless = nameless.accessor<bool, 2>();
  std::vector<Slot> slots;
  for (int64_t b = 0; b < answers.rows; ++b) {
    std::unordered_set<std::string_view> seen;
    for (int64_t k = 0; k < answers.slots; ++k) {
      bool ask = is_first[b][k];
      if (is_nameless[b][k]) {
        const std::string& text = answers.sets[static_cast<size_t>(b)].answers[static_cast<size_t>(k)].text;
        ask = !text.empty() && seen.insert(text).second;
      }
      if (ask) slots.push_back({b, k});
    }
  }
  return slots;
}

RewardOutput combine_answers(const AnswerBatch& answers, const std::vector<Slot>& slots,
                             const std::vector<double>& values, const CombineOptions& options) {
  PLURAL_CHECK(slots.size() == values.size(), "one value for each slot");
  Tensor value = at::zeros({answers.rows, answers.slots}, at::kDouble);
  auto place = value.accessor<double, 2>();
  for (size_t i = 0; i < slots.size(); ++i) place[slots[i].row][slots[i].slot] = values[i];
  value = value.to(answers.k.device(), answers.confidence.scalar_type());
  RewardOutput out;
  out.row = options.combine == "mean" ? value.sum(1) / answers.k.to(value.scalar_type()) : value.amax(1);
  return out;
}

}  // namespace plural::rewards
