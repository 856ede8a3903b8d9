// SPDX-License-Identifier: Apache-2.0
#include <ATen/ATen.h>

#include "lib/core/format.h"
#include "lib/train/policy_update.h"
#include "lib/train/prompts.h"
#include "lib/train/step_metrics.h"
#include "lib/train/stopwatch.h"
#include "lib/train/train_state.h"
#include "plural/error.h"
#include "plural/trainer.h"

namespace plural {

/// Everything one step made, one member an arrow of design.md's picture.
struct RlTrainer::LastStep {
  std::vector<const Example*> examples;       // B: each prompt's example, G times
  std::vector<std::vector<TokenId>> prompts;  // P
  RolloutBatch rollout;
  std::vector<std::string> texts;  // B
  AnswerBatch answers;
  RewardStack::Result rewards;
  Tensor advantage;  // [B] float32
};

RlTrainer::RlTrainer(RlParts parts, RlOptions options) : parts_(parts), options_(std::move(options)) {
  PLURAL_CHECK(!parts_.examples.empty(), "RL needs at least one example");
  PLURAL_CHECK(options_.prompts_per_step >= 1 && options_.samples_per_prompt >= 1 && options_.passes >= 1 &&
                   options_.max_batch_tokens >= 1,
               "prompts_per_step, samples_per_prompt, passes and max_batch_tokens are at least 1");
  check_num_answers(parts_.format, options_.num_answers);
  if (!(options_.sampling.temperature > 0))
    throw InputError(
        fmt::format("sampling.temperature: RL needs a temperature above 0, got {}; greedy completions of "
                    "one prompt are all equal",
                    options_.sampling.temperature));
  if (parts_.objective.needs_reference() && parts_.reference == nullptr)
    throw InputError("objective.kl_weight: a KL term needs a reference policy, none was given");
  options_.sampling.samples_per_prompt = options_.samples_per_prompt;
}

StepReport RlTrainer::step() {
  Stopwatch watch, total;
  auto last = std::make_shared<LastStep>();
  MetricMap metrics;

  draw_prompts(*last);
  generate(*last);
  metrics["time/generate_s"] = watch.lap_s();
  parse(*last);
  score(*last);
  credit(*last);
  metrics["time/score_s"] = watch.lap_s();
  metrics.merge(update(*last));
  metrics["time/update_s"] = watch.lap_s();

  // Only now: a step that throws (Ctrl-C while sampling, a bad reward) leaves the trainer as it was.
  last_ = std::move(last);
  data_position_ += options_.prompts_per_step;
  ++step_;
  return report(std::move(metrics), total.lap_s());
}

void RlTrainer::draw_prompts(LastStep& s) const {
  DataOrder order(static_cast<int64_t>(parts_.examples.size()), options_.seed);
  for (int64_t p = 0; p < options_.prompts_per_step; ++p) {
    const Example& example = parts_.examples[order.at(data_position_ + p).example];
    s.prompts.push_back(prompt_ids(example, parts_.format, options_.num_answers, parts_.tokenizer));
    check_fits_context(example, static_cast<int64_t>(s.prompts.back().size()), 0, parts_.policy);
    s.examples.insert(s.examples.end(), options_.samples_per_prompt, &example);
  }
}

void RlTrainer::generate(LastStep& s) const {
  s.rollout = parts_.engine.generate(s.prompts, options_.sampling, {options_.seed, static_cast<uint64_t>(step_), 0});
  PLURAL_CHECK(s.rollout.rows.size() == s.examples.size(), "the engine must return P * G rows");
  for (const Completion& row : s.rollout.rows) s.texts.push_back(row.text);
}

void RlTrainer::parse(LastStep& s) const {
  std::vector<CompletionView> views;
  for (size_t b = 0; b < s.examples.size(); ++b)
    views.push_back({s.examples[b], s.texts[b], s.rollout.rows[b].ids, options_.num_answers});
  s.answers = build_answer_batch(views, parts_.format, parts_.matcher, &parts_.tokenizer, parts_.policy.device());
}

void RlTrainer::score(LastStep& s) const {
  s.rewards = parts_.rewards.score({s.answers, s.examples, s.texts, options_.samples_per_prompt, step_});
}

void RlTrainer::credit(LastStep& s) const {
  s.advantage = parts_.advantage
                    .estimate({s.rewards.total, s.rewards.per_answer, &s.answers, options_.samples_per_prompt})
                    .row;
}

MetricMap RlTrainer::update(const LastStep& s) const {
  const Tensor advantage = s.advantage.to(at::kCPU, at::kDouble).contiguous();
  std::vector<UpdateRow> rows;
  for (size_t b = 0; b < s.rollout.rows.size(); ++b) {
    const Completion& row = s.rollout.rows[b];
    const auto& prompt = s.prompts[b / static_cast<size_t>(options_.samples_per_prompt)];
    rows.push_back({{prompt, row.ids}, row.log_probs, advantage.const_data_ptr<double>()[b]});
  }
  const double learning_rate = parts_.optimizer.options().learning_rate *
                               schedule_factor(parts_.optimizer.options(), step_, options_.steps);
  MetricMap metrics = update_policy({parts_.policy, parts_.reference, parts_.objective, parts_.optimizer}, rows,
                                    {.passes = options_.passes,
                                     .max_batch_tokens = options_.max_batch_tokens,
                                     .max_new_tokens = options_.sampling.max_new_tokens,
                                     .temperature = options_.sampling.temperature,
                                     .learning_rate = learning_rate});
  metrics["optim/learning_rate"] = learning_rate;
  return metrics;
}

StepReport RlTrainer::report(MetricMap metrics, double seconds) const {
  const LastStep& s = *last_;
  for (const auto& [name, value] : s.rewards.metrics) metrics[name] = value;
  metrics.merge(credit_metrics(s.rewards.total, s.advantage, options_.samples_per_prompt));
  metrics.merge(answer_metrics(s.answers));
  metrics.merge(rollout_metrics(s.rollout));
  metrics["time/step_s"] = seconds;
  metrics["rate/tokens_per_s"] = metrics["rollout/tokens"] / seconds;
  return {step_, std::move(metrics)};
}

void RlTrainer::visit_rows(const std::function<void(const RowRecord&)>& visit) const {
  if (!last_) return;
  const LastStep& s = *last_;
  const auto host = [](const Tensor& x) { return x.to(at::kCPU, at::kDouble).contiguous(); };
  const Tensor total = host(s.rewards.total), advantage = host(s.advantage);
  std::vector<Tensor> values, valid;
  for (const RewardOutput& part : s.rewards.parts) {
    values.push_back(host(part.row));
    valid.push_back(part.valid.defined() ? host(part.valid) : at::ones_like(values.back()));
  }
  for (size_t b = 0; b < s.examples.size(); ++b) {
    RowRecord record;
    record.example = s.examples[b];
    record.completion = &s.rollout.rows[b];
    record.answers = &s.answers.sets[b];
    record.total = total.const_data_ptr<double>()[b];
    record.advantage = advantage.const_data_ptr<double>()[b];
    for (size_t i = 0; i < values.size(); ++i)
      if (valid[i].const_data_ptr<double>()[b] != 0)
        record.rewards.emplace_back(parts_.rewards.terms()[i].name, values[i].const_data_ptr<double>()[b]);
    visit(record);
  }
}

TrainState RlTrainer::state() const { return collect_state(step_, data_position_, parts_.policy, parts_.optimizer); }

void RlTrainer::restore(const TrainState& state) {
  restore_state(state, parts_.policy, parts_.optimizer);
  step_ = state.step;
  data_position_ = state.data_position;
  last_.reset();
}

}  // namespace plural
