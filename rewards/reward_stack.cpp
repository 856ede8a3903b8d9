// SPDX-License-Identifier: Apache-2.0
#include <ATen/ATen.h>

#include <cmath>

#include "lib/core/format.h"
#include "plural/error.h"
#include "plural/reward.h"

namespace plural {
namespace {

/// The keys of a `rewards:` entry that belong to the stack, not to the reward.
struct TermOptions {
  double weight = 1.0;
  std::string label;
  template <class V>
  void fields(V& v) {
    v.field("weight", weight, any_value(), "factor in the total; 0 = computed and logged, not paid");
    v.field("label", label, any_value(), "name in logs; the reward's name unless given");
  }
};

bool is_term_key(const std::string& key) { return key == "weight" || key == "label"; }

/// Mean and sample standard deviation over the valid rows; nothing for rewards that apply nowhere.
void add_statistics(const std::string& name, const Tensor& values, const Tensor& valid,
                    std::map<std::string, double>& metrics) {
  const Tensor kept = (valid.defined() ? values.masked_select(valid) : values).to(at::kCPU, at::kDouble);
  if (kept.numel() == 0) return;
  metrics["reward/" + name + "/mean"] = kept.mean().item<double>();
  metrics["reward/" + name + "/std"] = kept.numel() > 1 ? kept.std().item<double>() : 0.0;
}

}  // namespace

void RewardStack::add(std::unique_ptr<Reward> reward, double weight, std::string name) {
  PLURAL_CHECK(reward != nullptr, "a reward stack needs rewards");
  PLURAL_CHECK(std::isfinite(weight), fmt::format("the weight of a reward must be finite, got {}", weight));
  if (name.empty()) name = reward->name();
  for (const Term& term : terms_)
    if (term.name == name)
      throw InputError(fmt::format("two rewards are called '{}'; give one of them a `label`", name));
  terms_.push_back({std::move(reward), weight, std::move(name)});
}

RewardStack::Result RewardStack::score(const RewardInput& input) const {
  const AnswerBatch& answers = input.answers;
  const auto options = answers.confidence.options().dtype(at::kFloat);
  Result result;
  result.total = at::zeros({answers.rows}, options);
  result.per_answer = at::zeros({answers.rows, answers.slots}, options);
  for (const Term& term : terms_) {
    RewardOutput part = term.reward->score(input);
    check_shapes({{"row", part.row, "B"},
                  {"per_answer", part.per_answer, "B K", true},
                  {"valid", part.valid, "B", true},
                  {"confidence", answers.confidence, "B K"}});
    Tensor row = part.row.to(at::kFloat);
    if (part.valid.defined()) row = at::where(part.valid, row, at::zeros_like(row));
    if (term.weight != 0) result.total += term.weight * row;
    if (term.weight != 0 && part.per_answer.defined()) {
      Tensor earned = part.per_answer.to(at::kFloat);
      if (part.valid.defined()) earned = at::where(part.valid.unsqueeze(1), earned, at::zeros_like(earned));
      result.per_answer += term.weight * earned;
    }
    add_statistics(term.name, part.row, part.valid, result.metrics);
    for (const auto& [key, value] : part.metrics) result.metrics["reward/" + term.name + "/" + key] = value;
    result.parts.push_back(std::move(part));
  }
  add_statistics("total", result.total, {}, result.metrics);
  return result;
}

std::string RewardStack::formula() const {
  std::string text = "total =";
  for (size_t i = 0; i < terms_.size(); ++i) {
    const double weight = terms_[i].weight;
    text += i == 0 ? (weight < 0 ? " -" : " ") : (weight < 0 ? " - " : " + ");
    text += fmt::format("{} {}", std::abs(weight), terms_[i].name);
  }
  if (terms_.empty()) text += " 0";
  for (const Term& term : terms_) text += fmt::format("\n  {}: {}", term.name, term.reward->formula());
  return text;
}

RewardStack build_reward_stack(const std::vector<PartSpec>& specs, const Registry<Reward>& registry) {
  RewardStack stack;
  for (const PartSpec& spec : specs) {
    ConfigNode own = spec.options, rest = spec.options;
    own.kind = rest.kind = ConfigNode::Kind::kMap;
    std::erase_if(own.entries, [](const ConfigNode::Entry& entry) { return !is_term_key(entry.key); });
    std::erase_if(rest.entries, [](const ConfigNode::Entry& entry) { return is_term_key(entry.key); });
    const auto options = read_options<TermOptions>(own);
    stack.add(registry.make(spec.name, rest), options.weight, options.label);
  }
  return stack;
}

}  // namespace plural
