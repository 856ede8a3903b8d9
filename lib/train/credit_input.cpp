// SPDX-License-Identifier: Apache-2.0
#include "lib/train/credit_input.h"

#include <ATen/ATen.h>

namespace plural {

namespace {

Tensor where_valid(const Tensor& value, const Tensor& valid) {
  return valid.defined() ? at::where(valid, value, at::zeros_like(value)) : value;
}

// Every paid reward by itself, and the values of single answers under those that judge them.
void add_parts(const RewardStack::Result& result, AdvantageInput& credit) {
  std::vector<Tensor> part, valid, vector;
  std::vector<double> weight;
  for (size_t i = 0; i < result.parts.size(); ++i) {
    const RewardOutput& output = result.parts[i];
    if (result.weights[i] == 0) continue;
    part.push_back(where_valid(output.row.to(at::kFloat), output.valid));
    valid.push_back(output.valid.defined() ? output.valid : at::ones_like(part.back(), at::kBool));
    weight.push_back(result.weights[i]);
    if (!output.per_answer.defined()) continue;
    const Tensor earned = result.weights[i] * output.per_answer.to(at::kFloat);
    vector.push_back(output.valid.defined() ? where_valid(earned, output.valid.unsqueeze(1)) : earned);
  }
  if (!part.empty()) {
    credit.part = at::stack(part, 1);
    credit.part_valid = at::stack(valid, 1);
    credit.part_weight = at::tensor(weight, at::kFloat);
  }
  if (!vector.empty()) credit.vector = at::stack(vector, 2);
}

// f(A_keep) of the paid rewards that have parts and for which `trait` holds; empty when there are none.
SubsetScore score_of_those(bool (Reward::*trait)() const, const RewardStack& rewards, const RewardInput& input,
                           const RewardStack::Result& result) {
  const Tensor nothing = at::zeros_like(input.answers.present);
  std::vector<size_t> chosen;
  for (size_t i = 0; i < rewards.terms().size(); ++i) {
    const Reward& reward = *rewards.terms()[i].reward;
    if (result.weights[i] != 0 && (reward.*trait)() && reward.score_subset(input, nothing).defined())
      chosen.push_back(i);
  }
  if (chosen.empty()) return {};
  return [&rewards, &input, &result, chosen](const Tensor& keep) {
    Tensor total = at::zeros_like(result.total);
    for (size_t i : chosen)
      total = total +
              result.weights[i] * where_valid(rewards.terms()[i].reward->score_subset(input, keep).to(at::kFloat),
                                              result.parts[i].valid);
    return total;
  };
}

bool judges_parts(const RewardStack& rewards, const RewardInput& input, const RewardStack::Result& result) {
  const Tensor nothing = at::zeros_like(input.answers.present);
  for (size_t i = 0; i < rewards.terms().size(); ++i)
    if (result.weights[i] != 0 && rewards.terms()[i].reward->score_subset(input, nothing).defined()) return true;
  return false;
}

}  // namespace

AdvantageInput credit_input(const RewardStack& rewards, const RewardInput& input, const RewardStack::Result& result) {
  AdvantageInput credit;
  credit.total = result.total;
  credit.per_answer = result.per_answer;
  credit.answers = &input.answers;
  credit.samples_per_prompt = input.samples_per_prompt;
  add_parts(result, credit);
  if (judges_parts(rewards, input, result))
    credit.score_subset = [&rewards, &input, &result](const Tensor& keep) {
      return rewards.score_subset(input, result, keep);
    };
  credit.score_reading = score_of_those(&Reward::reads_confidences, rewards, input, result);
  credit.score_confidences = score_of_those(&Reward::judges_confidences, rewards, input, result);
  return credit;
}

}  // namespace plural
