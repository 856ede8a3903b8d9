// SPDX-License-Identifier: Apache-2.0
#include "rewards/outside.h"

#include <ATen/ATen.h>

#include "plural/error.h"

namespace plural::rewards {

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

std::string gold_text(const Example& example) {
  std::string text;
  for (const GoldAnswer& gold : example.gold) text += (text.empty() ? "" : "; ") + gold.answer;
  return text;
}

}  // namespace plural::rewards
