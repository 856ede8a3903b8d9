// SPDX-License-Identifier: Apache-2.0
#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <optional>
#include <set>

#include "lib/core/format.h"
#include "plural/error.h"
#include "plural/reward.h"
#include "rewards/schedules.h"
#include "rewards/slow_scoring.h"

namespace plural {
namespace {

/// The keys of a `rewards:` entry that belong to the stack, not to the reward.
struct TermOptions {
  struct Ramp {
    double from = 0.0;
    int64_t begin = 0;
    int64_t end = 0;
    using config_struct = void;
    template <class V>
    void fields(V& v) {
      v.field("from", from, any_value(), "weight until step `begin`");
      v.field("begin", begin, at_least(0), "step from which the weight moves, linearly, to `weight`");
      v.field("end", end, at_least(0), "step from which it is `weight`; 0 = the last step of the run");
    }
    void validate(ConfigReader& reader) {
      if (end != 0 && end <= begin)
        reader.problem("end", fmt::format("a ramp ends after it begins, got begin {} and end {}", begin, end));
    }
  };

  double weight = 1.0;
  Ramp ramp;
  std::string label;
  double deadline_s = RewardStack::kDeadlineS;
  template <class V>
  void fields(V& v) {
    v.field("weight", weight, any_value(), "factor in the total; 0 = computed and logged, not paid");
    v.field("ramp", ramp, any_value(), "how the weight gets there, from another one; constant unless given");
    v.field("label", label, any_value(), "name in logs; the reward's name unless given");
    v.field("deadline_s", deadline_s, between(0.001, 1e6), "slow rewards: seconds that a completed batch waits for it");
  }
};

bool is_term_key(const std::string& key) {
  return key == "weight" || key == "ramp" || key == "label" || key == "deadline_s";
}

/// Rows that the reward does not apply to are worth 0.
Tensor masked(const Tensor& values, const Tensor& valid) {
  const Tensor row = values.to(at::kFloat);
  return valid.defined() ? at::where(valid, row, at::zeros_like(row)) : row;
}

/// A row with a value that is not a finite float32 number, its own or that of an answer, is one that the reward does
/// not apply to: NaN would spread over the advantages of its group, and from there over the whole step. Returns how
/// many rows these are.
int64_t leave_out_nonfinite(RewardOutput& part) {
  Tensor bad = at::isfinite(part.row.to(at::kFloat)).logical_not();
  if (part.per_answer.defined())
    bad = bad.logical_or(at::isfinite(part.per_answer.to(at::kFloat)).all(1).logical_not());
  if (part.valid.defined()) bad = bad.logical_and(part.valid);
  const auto count = bad.sum().item<int64_t>();
  if (count == 0) return 0;
  const Tensor good = bad.logical_not();
  part.valid = part.valid.defined() ? part.valid.logical_and(good) : good;
  return count;
}

/// Mean and sample standard deviation over the valid rows; nothing for rewards that apply nowhere.
void add_statistics(const std::string& name, const Tensor& values, const Tensor& valid,
                    std::map<std::string, double>& metrics) {
  const Tensor kept = (valid.defined() ? values.masked_select(valid) : values).to(at::kCPU, at::kDouble);
  if (kept.numel() == 0) return;
  metrics["reward/" + name + "/mean"] = kept.mean().item<double>();
  metrics["reward/" + name + "/std"] = kept.numel() > 1 ? kept.std().item<double>() : 0.0;
}

/// Sum over the rows of |weighted value - its group's mean|: what a term moves in the advantages before any scaling.
double moved(const Tensor& weighted, int64_t samples_per_prompt) {
  const Tensor groups = weighted.to(at::kDouble).view({weighted.size(0) / samples_per_prompt, samples_per_prompt});
  return (groups - groups.mean(1, /*keepdim=*/true)).abs().sum().item<double>();
}

constexpr int64_t kLastStep = std::numeric_limits<int64_t>::max();

/// The weighted margins of a stack (Reward::zero_confidence_margin) at the step where they are least.
struct Margin {
  double total = 0;
  int64_t step = 0;
};

Margin least_margin(const std::vector<RewardStack::Term>& terms, int64_t k, bool exclusive) {
  // Weights are piecewise linear in the step, and so is the sum: its least lies where a ramp begins or ends.
  std::set<int64_t> corners = {0, kLastStep};
  for (const RewardStack::Term& term : terms)
    if (!term.weight.constant()) corners.insert({term.weight.begin, term.weight.end > 0 ? term.weight.end : kLastStep});
  Margin least{std::numeric_limits<double>::infinity(), 0};
  for (const int64_t step : corners) {
    double total = 0;
    for (const RewardStack::Term& term : terms)
      total += term.weight.at(step, kLastStep) * term.reward->zero_confidence_margin(k, exclusive);
    if (total < least.total) least = {total, step};
  }
  return least;
}

std::string weight_text(const RewardWeight& weight) {
  if (weight.constant()) return fmt::format("{}", std::abs(weight.value));
  const std::string end = weight.end > 0 ? fmt::format("step {}", weight.end) : "the last step";
  return fmt::format("({} until step {}, {} from {})", weight.from, weight.begin, weight.value, end);
}

}  // namespace

double RewardWeight::at(int64_t step, int64_t steps) const {
  if (constant() || steps <= 0) return value;
  return linear_ramp(from, value, step, begin, end > 0 ? end : steps);
}

void RewardStack::add(std::unique_ptr<Reward> reward, RewardWeight weight, std::string name, double deadline_s) {
  PLURAL_CHECK(reward != nullptr, "a reward stack needs rewards");
  PLURAL_CHECK(std::isfinite(weight.value) && std::isfinite(weight.from),
               fmt::format("the weight of a reward must be finite, got {} to {}", weight.from, weight.value));
  if (name.empty()) name = reward->name();
  for (const Term& term : terms_)
    if (term.name == name)
      throw InputError(fmt::format("two rewards are called '{}'; give one of them a `label`", name));
  terms_.push_back({.reward = std::move(reward), .weight = weight, .name = std::move(name), .deadline_s = deadline_s});
}

bool RewardStack::has_slow() const {
  return std::any_of(terms_.begin(), terms_.end(), [](const Term& term) { return term.reward->slow(); });
}

RewardStack::Result RewardStack::score(const RewardInput& input, SlowScoring* begun) const {
  const AnswerBatch& answers = input.answers;
  PLURAL_CHECK(input.samples_per_prompt >= 1 && answers.rows % input.samples_per_prompt == 0,
               fmt::format("{} rows are no groups of {}", answers.rows, input.samples_per_prompt));
  std::optional<SlowScoring> own;
  if (begun == nullptr && has_slow() && answers.rows > 0) {
    own.emplace(
        *this, [batch = answers.to(at::kCPU)](auto, const auto&) { return batch; }, SlowScoring::Step(input));
    own->add_all(input);
    begun = &*own;
  }
  std::vector<RewardOutput> parts(terms_.size());
  for (size_t i = 0; i < terms_.size(); ++i)
    if (begun == nullptr || !terms_[i].reward->slow()) parts[i] = terms_[i].reward->score(input);
  if (begun != nullptr) {
    std::vector<RewardOutput> slow = begun->finish(answers);
    for (size_t i = 0; i < terms_.size(); ++i)
      if (terms_[i].reward->slow()) parts[i] = std::move(slow[i]);
  }

  const auto options = answers.confidence.options().dtype(at::kFloat);
  Result result;
  result.total = at::zeros({answers.rows}, options);
  result.per_answer = at::zeros({answers.rows, answers.slots}, options);
  std::vector<double> shares;
  for (size_t i = 0; i < terms_.size(); ++i) {
    const Term& term = terms_[i];
    RewardOutput& part = parts[i];
    check_shapes({{"row", part.row, "B"},
                  {"per_answer", part.per_answer, "B K", true},
                  {"valid", part.valid, "B", true},
                  {"confidence", answers.confidence, "B K"}});
    const int64_t nonfinite = leave_out_nonfinite(part);
    const double weight = term.weight.at(input.step, input.steps);
    const Tensor weighted = weight * masked(part.row, part.valid);
    if (weight != 0) result.total += weighted;
    if (weight != 0 && part.per_answer.defined())
      result.per_answer += weight *
                           masked(part.per_answer, part.valid.defined() ? part.valid.unsqueeze(1) : part.valid);
    shares.push_back(weight != 0 ? moved(weighted, input.samples_per_prompt) : 0.0);

    const std::string prefix = "reward/" + term.name + "/";
    add_statistics(term.name, part.row, part.valid, result.metrics);
    if (part.valid.defined() && answers.rows > 0)
      result.metrics[prefix + "valid"] = part.valid.to(at::kDouble).mean().item<double>();
    if (!term.weight.constant()) result.metrics[prefix + "weight"] = weight;
    for (const auto& [key, value] : part.metrics) result.metrics[prefix + key] = value;
    result.weights.push_back(weight);
    if (!part.problem.empty()) result.problems.push_back(fmt::format("{}: {}", term.name, part.problem));
    if (nonfinite == 0) continue;
    result.metrics[prefix + "nonfinite_rows"] = static_cast<double>(nonfinite);
    result.problems.push_back(
        fmt::format("{}: its value is not a finite number in some rows, which are left out", term.name));
  }
  const double all = std::accumulate(shares.begin(), shares.end(), 0.0);
  for (size_t i = 0; i < terms_.size() && all > 0; ++i)
    result.metrics["reward/" + terms_[i].name + "/share"] = shares[i] / all;
  result.parts = std::move(parts);
  add_statistics("total", result.total, {}, result.metrics);
  return result;
}

Tensor RewardStack::score_subset(const RewardInput& input, const Result& result, const Tensor& keep) const {
  check_shapes({{"keep", keep, "B K"}, {"confidence", input.answers.confidence, "B K"}});
  PLURAL_CHECK(result.parts.size() == terms_.size(), "the result must come from this stack's score()");
  Tensor total = at::zeros_like(result.total);
  for (size_t i = 0; i < terms_.size(); ++i) {
    if (result.weights[i] == 0) continue;
    const RewardOutput& part = result.parts[i];
    const Tensor subset = terms_[i].reward->score_subset(input, keep);
    const Tensor earned = masked(subset.defined() ? subset : part.row, part.valid);
    total += result.weights[i] * at::where(at::isfinite(earned), earned, at::zeros_like(earned));
  }
  return total;
}

Tensor RewardStack::score_whole(const RewardInput& input, const Result& result) const {
  const Tensor nothing = at::zeros_like(input.answers.present);
  Tensor total = at::zeros_like(result.total);
  for (size_t i = 0; i < terms_.size(); ++i) {
    const RewardOutput& part = result.parts[i];
    if (result.weights[i] == 0 || terms_[i].reward->score_subset(input, nothing).defined()) continue;
    total += result.weights[i] * masked(part.row, part.valid);
  }
  return total;
}

bool RewardStack::needs_token_entropy() const {
  return std::any_of(terms_.begin(), terms_.end(), [](const Term& term) { return term.reward->needs_token_entropy(); });
}

std::vector<std::string> RewardStack::warnings(int64_t k) const {
  const Margin worst = least_margin(terms_, k, /*exclusive=*/false);
  if (worst.total > -1e-9) return {};
  std::string pays, costs;
  for (const Term& term : terms_) {
    const double margin = term.weight.at(worst.step, kLastStep) * term.reward->zero_confidence_margin(k, false);
    if (margin == 0) continue;
    std::string& list = margin > 0 ? pays : costs;
    list += fmt::format("{}{} {:.4g}", list.empty() ? "" : ", ", term.name, std::abs(margin));
  }
  const std::string when = worst.step == 0           ? ""
                           : worst.step == kLastStep ? " at the end of the run"
                                                     : fmt::format(" at step {}", worst.step);
  const bool safe_if_exclusive = least_margin(terms_, k, /*exclusive=*/true).total > -1e-9;
  return {fmt::format(
      "this reward pays for answers that are wrong on purpose{}{}: one of {} answers that is right, though stated with "
      "a confidence near 0, earns at least {} for that and loses {}. A wrong answer with confidence 0 is then worth "
      "more than an honest try that is unlikely to be right. Give the correctness of every answer (coverage, or "
      "accuracy with more_than_one_correctness_point) more weight, or the scores of the confidences less",
      safe_if_exclusive ? " where questions have several right answers" : "", when, k, pays.empty() ? "nothing" : pays,
      costs)};
}

std::string RewardStack::formula() const {
  std::string text = "total =";
  for (size_t i = 0; i < terms_.size(); ++i) {
    const RewardWeight& weight = terms_[i].weight;
    const bool minus = weight.constant() && weight.value < 0;
    text += i == 0 ? (minus ? " -" : " ") : (minus ? " - " : " + ");
    text += fmt::format("{} {}", weight_text(weight), terms_[i].name);
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
    const TermOptions::Ramp& ramp = options.ramp;
    const RewardWeight weight = own.find("ramp") ? RewardWeight(ramp.from, options.weight, ramp.begin, ramp.end)
                                                 : RewardWeight(options.weight);
    stack.add(registry.make(spec.name, rest), weight, options.label, options.deadline_s);
  }
  return stack;
}

}  // namespace plural
