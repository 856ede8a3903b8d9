// SPDX-License-Identifier: Apache-2.0
#include "lib/train/prompt_source.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <tuple>

#include "lib/core/format.h"
#include "lib/train/memory_tensors.h"
#include "plural/dataset.h"
#include "plural/error.h"
#include "plural/rng.h"

namespace plural {

namespace {

void check_name(const char* key, const std::string& name, std::initializer_list<const char*> known) {
  if (std::ranges::find(known, name) != known.end()) return;
  throw InputError(fmt::format("{}: expected one of {}; got '{}'", key, fmt::join(known, ", "), name));
}

}  // namespace

PromptSource::PromptSource(PromptSourceOptions options)
    : options_(std::move(options)),
      pass_rate_(static_cast<size_t>(options_.examples), std::numeric_limits<double>::quiet_NaN()) {
  PLURAL_CHECK(options_.examples >= 1 && !options_.num_answers.empty(), "there must be examples and a K to draw from");
  check_name("curriculum.measure", options_.curriculum.measure, {"none", "any_correct", "coverage", "reward"});
  check_name("curriculum.unseen", options_.curriculum.unseen, {"first", "neutral"});
}

std::vector<PromptDraw> PromptSource::draw(int64_t step, int64_t first, int64_t count) const {
  DataOrder shuffled(options_.examples, options_.seed);
  const std::vector<int64_t> order = options_.curriculum.on() ? order_by_pass_rate(step) : std::vector<int64_t>();
  std::vector<PromptDraw> draws;
  for (int64_t n = first; n < first + count; ++n) {
    RandomStream stream(options_.seed, RandomPurpose::kNumAnswers, static_cast<uint64_t>(position_ + n));
    draws.push_back(
        {.example = order.empty() ? shuffled.at(position_ + n).example : order[static_cast<size_t>(n) % order.size()],
         .num_answers = options_.num_answers[stream.below(options_.num_answers.size())]});
  }
  return draws;
}

double PromptSource::seen_chance(double pass_rate) const {
  const CurriculumOptions& o = options_.curriculum;
  const double distance = (pass_rate - o.target) / o.width;
  return std::max(o.floor, std::exp(-0.5 * distance * distance));
}

double PromptSource::chance(int64_t example) const {
  const double rate = pass_rate_[static_cast<size_t>(example)];
  if (!std::isnan(rate)) return seen_chance(rate);
  if (options_.curriculum.unseen == "first") return 1.0;
  double sum = 0, seen = 0;
  for (const double other : pass_rate_)
    if (!std::isnan(other)) sum += seen_chance(other), ++seen;
  return seen > 0 ? sum / seen : 1.0;
}

// Every example rings at a random time, exponential with its chance as the rate; the order of the rings is a draw
// without replacement in proportion to the chances (Efraimidis and Spirakis 2006).
std::vector<int64_t> PromptSource::order_by_pass_rate(int64_t step) const {
  const bool unseen_first = options_.curriculum.unseen == "first";
  std::vector<std::tuple<bool, double, int64_t>> places;
  std::optional<double> neutral;  // one mean for all unseen examples
  for (int64_t i = 0; i < options_.examples; ++i) {
    const bool seen = !std::isnan(pass_rate_[static_cast<size_t>(i)]);
    if (!seen && !neutral) neutral = chance(i);
    RandomStream stream(options_.seed, RandomPurpose::kCurriculum, static_cast<uint64_t>(step),
                        static_cast<uint64_t>(i));
    const double rate = std::max(seen ? chance(i) : *neutral, std::numeric_limits<double>::min());
    places.emplace_back(unseen_first && seen, -std::log1p(-stream.uniform()) / rate, i);
  }
  std::ranges::sort(places);
  std::vector<int64_t> order;
  for (const auto& [later, rings, example] : places) order.push_back(example);
  return order;
}

std::span<const SampledGroup> PromptSource::carried(int64_t most) const {
  return std::span(kept_).first(std::min(static_cast<size_t>(most), kept_.size()));
}

void PromptSource::finish_step(int64_t step, const PromptUse& use) {
  position_ += use.drawn;
  for (const auto& [example, rate] : use.pass_rates) {
    double& running = pass_rate_[static_cast<size_t>(example)];
    const double decay = std::isnan(running) ? 0.0 : options_.curriculum.decay;
    running = decay > 0 ? decay * running + (1 - decay) * rate : rate;
  }
  kept_.erase(kept_.begin(), kept_.begin() + use.carried);
  kept_.insert(kept_.end(), use.spare.begin(), use.spare.end());
  std::erase_if(kept_,
                [&](const SampledGroup& group) { return step + 1 - group.step > options_.carry_over.max_staleness; });
  const auto most = static_cast<size_t>(options_.carry_over.max_groups);
  if (kept_.size() > most) kept_.erase(kept_.begin(), kept_.end() - options_.carry_over.max_groups);
}

MetricMap PromptSource::metrics() const {
  if (!options_.curriculum.on()) return {};
  double sum = 0, seen = 0;
  for (const double rate : pass_rate_)
    if (!std::isnan(rate)) sum += rate, ++seen;
  MetricMap metrics = {{"curriculum/seen", seen / static_cast<double>(options_.examples)}};
  if (seen > 0) metrics["curriculum/pass_rate"] = sum / seen;
  return metrics;
}

void PromptSource::add_state(NamedTensors& memory) const {
  if (options_.curriculum.on()) MemoryWriter(memory, "curriculum.").add("pass_rate", pass_rate_);
  if (options_.carry_over.max_groups == 0) return;
  std::vector<int64_t> example, num_answers, step, finish;
  std::vector<std::vector<TokenId>> prompt, ids;
  std::vector<std::vector<float>> log_probs;
  std::vector<std::vector<uint8_t>> text;
  for (const SampledGroup& group : kept_) {
    example.push_back(group.example);
    num_answers.push_back(group.num_answers);
    step.push_back(group.step);
    prompt.push_back(group.prompt);
    for (const Completion& row : group.rows) {
      ids.push_back(row.ids);
      log_probs.push_back(row.log_probs);
      finish.push_back(row.finish == FinishReason::kStop ? 1 : 0);
      text.emplace_back(row.text.begin(), row.text.end());
    }
  }
  MemoryWriter out(memory, "carry_over.");
  out.add("example", example);
  out.add("num_answers", num_answers);
  out.add("step", step);
  out.add("prompt", prompt);
  out.add("ids", ids);
  out.add("log_probs", log_probs);
  out.add("finish", finish);
  out.add("text", text);
}

void PromptSource::restore(int64_t position, const NamedTensors& memory) {
  const auto size = static_cast<size_t>(options_.examples);
  std::vector<double> pass_rate(size, std::numeric_limits<double>::quiet_NaN());
  if (const MemoryReader in(memory, "curriculum."); options_.curriculum.on() && in.has("pass_rate")) {
    pass_rate = in.values<double>("pass_rate");
    in.check(pass_rate.size() == size, "pass_rate",
             fmt::format("is of {} examples, the data has {}", pass_rate.size(), size));
  }
  std::vector<SampledGroup> kept;
  if (const MemoryReader in(memory, "carry_over."); options_.carry_over.max_groups > 0 && in.has("example")) {
    const auto example = in.values<int64_t>("example"), num_answers = in.values<int64_t>("num_answers"),
               step = in.values<int64_t>("step"), finish = in.values<int64_t>("finish");
    auto prompt = in.lists<TokenId>("prompt"), ids = in.lists<TokenId>("ids");
    auto log_probs = in.lists<float>("log_probs");
    const auto text = in.lists<uint8_t>("text");
    const size_t groups = example.size(), rows = groups * static_cast<size_t>(options_.samples_per_prompt);
    in.check(num_answers.size() == groups && step.size() == groups && prompt.size() == groups, "example",
             "does not have as many entries as the other tensors");
    in.check(ids.size() == rows && log_probs.size() == rows && finish.size() == rows && text.size() == rows, "ids",
             fmt::format("is of {} completions, expected {} of {} prompts", ids.size(), rows, groups));
    for (size_t g = 0, b = 0; g < groups; ++g) {
      in.check(example[g] >= 0 && example[g] < options_.examples, "example", "names an example that the data lacks");
      SampledGroup group{example[g], num_answers[g], step[g], std::move(prompt[g]), {}};
      for (int64_t i = 0; i < options_.samples_per_prompt; ++i, ++b) {
        in.check(ids[b].size() == log_probs[b].size(), "log_probs", "does not have one number for each id");
        group.rows.push_back({.ids = std::move(ids[b]),
                              .log_probs = std::move(log_probs[b]),
                              .finish = finish[b] != 0 ? FinishReason::kStop : FinishReason::kLength,
                              .text = std::string(text[b].begin(), text[b].end())});
      }
      kept.push_back(std::move(group));
    }
  }
  position_ = position;
  pass_rate_ = std::move(pass_rate);
  kept_ = std::move(kept);
}

}  // namespace plural
