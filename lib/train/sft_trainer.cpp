// SPDX-License-Identifier: Apache-2.0
#include <ATen/ATen.h>

#include "lib/core/format.h"
#include "lib/train/micro_batches.h"
#include "lib/train/prompts.h"
#include "lib/train/stopwatch.h"
#include "lib/train/train_state.h"
#include "plural/error.h"
#include "plural/trainer.h"

namespace plural {

/// One prompt with its target, end-of-turn id included.
struct SftTrainer::Row {
  std::vector<TokenId> prompt, target;
};

SftTrainer::SftTrainer(SftParts parts, SftOptions options) : parts_(parts), options_(std::move(options)) {
  PLURAL_CHECK(!parts_.examples.empty(), "fine-tuning needs at least one example");
  PLURAL_CHECK(options_.rows_per_step >= 1 && options_.max_batch_tokens >= 1,
               "rows_per_step and max_batch_tokens are at least 1");
  const bool gold = options_.target == "gold";
  if (!gold && options_.target != "responses")
    throw InputError(fmt::format("sft.target: expected one of gold, responses; got '{}'", options_.target));
  const ConfidenceTargets& confidences = options_.confidences;
  if (gold && confidences.levels.empty()) throw InputError("sft.confidences: at least one number is needed");
  if (confidences.source != "uniform" && confidences.source != "weight")
    throw InputError(
        fmt::format("sft.confidence_source: expected one of uniform, weight; got '{}'", confidences.source));
  if (!(confidences.power >= 0))
    throw InputError(fmt::format("sft.confidence_power: expected at least 0, got {}", confidences.power));
  if (gold) check_num_answers(parts_.format, options_.num_answers);
  for (const Example& example : parts_.examples) {
    if (gold ? example.gold.empty() : example.responses.empty())
      throw InputError(fmt::format("example '{}': sft.target '{}' needs its field '{}', which is empty", example.id,
                                   options_.target, gold ? "gold" : "responses"));
    if (gold) check_gold(example);
  }
  if (!parts_.tokenizer.eos_id())
    throw InputError("the tokenizer names no end-of-turn token; set eos_token in tokenizer_config.json");
}

// Found now rather than after hours, when the example is drawn.
void SftTrainer::check_gold(const Example& example) const {
  bool any = false;
  for (const GoldAnswer& gold : example.gold) {
    if (normal_form(gold.answer).empty()) continue;  // draw_gold_answers leaves it out
    render(example, {{gold.answer, options_.confidences.levels.front()}});
    any = true;
  }
  if (!any) throw InputError(fmt::format("example '{}': none of its gold answers has a letter or digit", example.id));
}

StepReport SftTrainer::step() {
  Stopwatch watch;
  int64_t position = data_position_;
  const std::vector<Row> rows = draw_rows(position);
  MetricMap metrics = update(rows);
  // Only now: a step that throws leaves the trainer as it was.
  data_position_ = position;
  ++step_;
  metrics["time/step_s"] = watch.lap_s();
  metrics["rate/tokens_per_s"] = metrics["sft/tokens"] / metrics["time/step_s"];
  return {step_, std::move(metrics)};
}

std::vector<SftTrainer::Row> SftTrainer::draw_rows(int64_t& position) const {
  DataOrder order(static_cast<int64_t>(parts_.examples.size()), options_.seed);
  std::vector<Row> rows;
  while (static_cast<int64_t>(rows.size()) < options_.rows_per_step) {
    const Example& example = parts_.examples[order.at(position).example];
    if (options_.target == "gold") {
      RandomStream stream(options_.seed, RandomPurpose::kTargets, static_cast<uint64_t>(position));
      const int64_t k = options_.num_answers[stream.below(options_.num_answers.size())];
      const auto answers = draw_gold_answers(example, k, options_.confidences, stream);
      // A category with fewer answers than k is asked for as many as it has.
      add_row(example, static_cast<int64_t>(answers.size()), render(example, answers), rows);
    } else {
      // All responses of an example stay in one step, next to each other: the prompt is computed once.
      for (const Response& response : example.responses) add_row(example, 0, response.text, rows);
    }
    ++position;
  }
  return rows;
}

std::string SftTrainer::render(const Example& example, const std::vector<StatedAnswer>& answers) const {
  try {
    return parts_.format.render(answers);
  } catch (const InputError& error) {
    throw InputError(fmt::format("example '{}': {}", example.id, error.what()));
  }
}

void SftTrainer::add_row(const Example& example, int64_t k, const std::string& text, std::vector<Row>& rows) const {
  Row row;
  row.prompt = prompt_ids(example, parts_.format, k, parts_.tokenizer);
  row.target = parts_.tokenizer.encode(text);
  row.target.push_back(*parts_.tokenizer.eos_id());
  check_fits_context(example, static_cast<int64_t>(row.prompt.size()), static_cast<int64_t>(row.target.size()),
                     parts_.policy);
  rows.push_back(std::move(row));
}

MetricMap SftTrainer::update(const std::vector<Row>& rows) const {
  std::vector<PackRow> ids;
  double targets = 0, tokens = 0;
  for (const Row& row : rows) {
    ids.push_back({row.prompt, row.target});
    targets += static_cast<double>(row.target.size());
    tokens += static_cast<double>(row.prompt.size() + row.target.size());
  }
  Tensor loss;
  for (const Span& run : cut_rows(ids, options_.max_batch_tokens)) {
    const MicroBatch micro = pack_micro_batch(ids, run, parts_.policy.device());
    const Tensor part = parts_.policy.evaluate(micro.batch, {}).log_prob.sum() * (-1.0 / targets);
    parts_.optimizer.set_gradients_aside();
    part.backward();
    const Tensor value = part.detach().to(at::kDouble);
    loss = loss.defined() ? loss + value : value;
  }
  const OptimizerOptions& optimizer = parts_.optimizer.options();
  const double learning_rate = optimizer.learning_rate * schedule_factor(optimizer, step_, options_.steps);
  const StepResult result = parts_.optimizer.step(learning_rate);
  return {{"loss", loss.item<double>()},
          {"optim/grad_norm", result.grad_norm},
          {"optim/learning_rate", learning_rate},
          {"optim/skipped", result.skipped ? 1.0 : 0.0},
          {"optim/updates", result.skipped ? 0.0 : 1.0},
          {"sft/rows", static_cast<double>(rows.size())},
          {"sft/target_tokens", targets},
          {"sft/tokens", tokens}};
}

TrainState SftTrainer::state() const { return collect_state(step_, data_position_, parts_.policy, parts_.optimizer); }

void SftTrainer::restore(const TrainState& state) {
  restore_state(state, parts_.policy, parts_.optimizer);
  step_ = state.step;
  data_position_ = state.data_position;
}

}  // namespace plural
