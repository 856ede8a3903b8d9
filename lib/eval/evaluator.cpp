// SPDX-License-Identifier: Apache-2.0
#include "lib/eval/evaluator.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <charconv>

#include "lib/core/file_io.h"
#include "lib/core/format.h"
#include "lib/core/utf8.h"
#include "lib/eval/evaluation_json.h"
#include "lib/eval/sample_record.h"
#include "plural/checkpoint.h"

namespace plural::eval {
namespace {

using Json = nlohmann::ordered_json;

constexpr int64_t kFewestOfAnAnswer = 10;
constexpr size_t kMostAnswersListed = 20;

/// Sets that were read already. A "completion" is the number of the set; everything else is the real format's. It is
/// never single(): K completions of one answer each are a set too.
class ReadFormat final : public AnswerFormat {
 public:
  ReadFormat(const AnswerFormat& format, std::span<const SampledSet> sets) : format_(format), sets_(sets) {}
  std::string name() const override { return format_.name(); }
  bool has_confidences() const override { return format_.has_confidences(); }
  std::string instruction(int64_t k) const override { return format_.instruction(k); }
  std::string render(std::span<const StatedAnswer> answers) const override { return format_.render(answers); }
  AnswerSet parse(std::string_view text, int64_t) const override {
    size_t index = 0;
    std::from_chars(text.data(), text.data() + text.size(), index);
    return sets_[index].answers;
  }

 private:
  const AnswerFormat& format_;
  std::span<const SampledSet> sets_;
};

AnswerBatch batch_of(std::span<const SampledSet> sets, int64_t k, const AnswerFormat& format, const Matcher& matcher,
                     const std::stop_token& stop) {
  std::vector<std::string> names;
  for (size_t row = 0; row < sets.size(); ++row) names.push_back(std::to_string(row));
  std::vector<CompletionView> views;
  for (size_t row = 0; row < sets.size(); ++row) views.push_back({sets[row].example, names[row], {}, k});
  AnswerBatch batch = build_answer_batch(views, ReadFormat(format, sets), matcher, nullptr, at::kCPU, at::kDouble,
                                         stop);
  for (size_t row = 0; row < sets.size(); ++row) batch.length[static_cast<int64_t>(row)] = sets[row].tokens;
  return batch;
}

/// [B, K] int64; undefined when not known.
Tensor tokens_at(std::span<const SampledSet> sets, int64_t k) {
  Tensor tokens = at::zeros({static_cast<int64_t>(sets.size()), k}, at::kLong);
  auto value = tokens.accessor<int64_t, 2>();
  for (size_t row = 0; row < sets.size(); ++row) {
    if (sets[row].tokens_at.size() != sets[row].answers.answers.size()) return {};
    for (size_t i = 0; i < sets[row].tokens_at.size(); ++i)
      value[static_cast<int64_t>(row)][static_cast<int64_t>(i)] = sets[row].tokens_at[i];
  }
  return tokens;
}

/// The points of brier and ece, labelled by the answers' normal forms and by the examples' sources.
void group_points(std::span<const SampledSet> sets, const AnswerBatch& batch, Evaluation* evaluation) {
  Forecasts points;
  std::vector<std::string> answers, sources;
  bool any_source = false;
  for (size_t row = 0; row < sets.size(); ++row) {
    const SampledSet& set = sets[row];
    any_source = any_source || !set.example->source.empty();
    const std::vector<int64_t> match = matches_of_row(batch, static_cast<int64_t>(row));
    for (size_t i = 0; i < match.size(); ++i) {
      const Answer& answer = set.answers.answers[i];
      if (answer.answer_bytes.empty() || !(answer.confidence >= 0 && answer.confidence <= 1)) continue;
      points.confidence.push_back(answer.confidence);
      points.correct.push_back(match[i] >= 0 ? 1.0 : 0.0);
      answers.push_back(answer.normal);
      sources.push_back(set.example->source);
    }
  }
  std::vector<GroupCalibration> by_answer = calibration_by_group(points, answers);
  std::erase_if(by_answer, [](const GroupCalibration& group) { return group.count < kFewestOfAnAnswer; });
  std::stable_sort(by_answer.begin(), by_answer.end(), [](const auto& a, const auto& b) { return a.count > b.count; });
  by_answer.resize(std::min(by_answer.size(), kMostAnswersListed));
  evaluation->by_answer = std::move(by_answer);
  if (any_source) evaluation->by_source = calibration_by_group(points, sources);
}

/// What the rows of one prompt hold together.
struct PromptLength {
  double characters = 0, rows = 0;
};

/// Characters as samples.jsonl has them: an ill-formed sequence is one.
double characters_of(std::string_view text) {
  const std::string written = replace_invalid_utf8(text);
  return static_cast<double>(
      std::count_if(written.begin(), written.end(), [](char byte) { return (byte & 0xC0) != 0x80; }));
}

/// "completion_characters", which no tensor of the batch tells: mean over rows, by bootstrap over prompts.
void measure_characters(std::span<const SampledSet> sets, const BootstrapOptions& bootstrap, Evaluation* evaluation) {
  std::map<int64_t, PromptLength> by_prompt;
  PromptLength all;
  for (const SampledSet& set : sets) {
    PromptLength& prompt = by_prompt[set.prompt];
    for (const Completion& completion : set.completions) prompt.characters += characters_of(completion.text);
    ++prompt.rows;
  }
  std::vector<PromptLength> prompts;
  for (const auto& [number, prompt] : by_prompt) {
    prompts.push_back(prompt);
    all.characters += prompt.characters, all.rows += prompt.rows;
  }
  evaluation->metrics["completion_characters"] = all.characters / all.rows;
  if (bootstrap.replicates == 0 || prompts.empty()) return;
  const auto mean = [&](std::span<const int64_t> drawn) {
    PromptLength sum;
    for (const int64_t prompt : drawn) {
      sum.characters += prompts[static_cast<size_t>(prompt)].characters;
      sum.rows += prompts[static_cast<size_t>(prompt)].rows;
    }
    return sum.characters / sum.rows;
  };
  evaluation->intervals["completion_characters"] = bootstrap_interval(
      static_cast<int64_t>(prompts.size()), mean, bootstrap.level, bootstrap.replicates, bootstrap.seed);
}

std::string sample_lines(std::span<const SampledSet> sets, const AnswerBatch& batch, const Matcher& matcher) {
  std::string lines;
  for (size_t row = 0; row < sets.size(); ++row) {
    const SampledSet& set = sets[row];
    Json record = sample_record(*set.example, set.completions, set.answers,
                                matches_of_row(batch, static_cast<int64_t>(row)), matcher);
    // With aliases, weights and source, so that the line can be evaluated again.
    record["gold"] = Json::parse(to_json_line(*set.example)).value("gold", Json::array());
    if (!set.example->source.empty()) record["source"] = set.example->source;
    record["tokens"] = set.tokens > 0 ? Json(set.tokens) : Json();
    record["num_answers"] = set.k;
    record["sample"] = set.sample;
    if (set.forced_answers > 0) record["forced_answers"] = set.forced_answers;
    if (set.forced_confidences > 0) record["forced_confidences"] = set.forced_confidences;
    lines += json_line(record);
  }
  return lines;
}

Json to_json(const MetricMap& metrics) {
  Json json = Json::object();
  for (const auto& [name, value] : metrics) json[name] = value;  // NaN (undefined) becomes null
  return json;
}

Json to_json(const SamplingOptions& sampling) {
  return {{"temperature", sampling.temperature},
          {"top_k", sampling.top_k},
          {"top_p", sampling.top_p},
          {"min_p", sampling.min_p},
          {"stop", sampling.stop},
          {"max_new_tokens", sampling.max_new_tokens}};
}

}  // namespace

Evaluation evaluate(std::span<const SampledSet> sets, int64_t k, const AnswerFormat& format, const Matcher& matcher,
                    const BootstrapOptions& bootstrap, const std::stop_token& stop) {
  const AnswerBatch batch = batch_of(sets, k, format, matcher, stop);
  std::vector<int64_t> prompts;
  double answers = 0, forced_answers = 0, forced_confidences = 0;
  for (const SampledSet& set : sets) {
    prompts.push_back(set.prompt);
    for (const Answer& answer : set.answers.answers) answers += !answer.answer_bytes.empty();
    forced_answers += static_cast<double>(set.forced_answers);
    forced_confidences += static_cast<double>(set.forced_confidences);
  }
  const SetMetrics measured = evaluate_sets(batch, prompts, tokens_at(sets, k));
  Evaluation evaluation;
  evaluation.num_answers = k;
  evaluation.metrics = to_metric_map(measured);
  evaluation.metrics["forced_answers"] = forced_answers / static_cast<double>(sets.size());
  evaluation.metrics["forced_confidences"] = forced_confidences / answers;
  for (const auto& [name, value] : batch.match_metrics) evaluation.metrics["match/" + name] = value;
  evaluation.match_problem = batch.match_problem;
  if (bootstrap.replicates > 0) evaluation.intervals = set_metric_intervals(batch, prompts, bootstrap);
  measure_characters(sets, bootstrap, &evaluation);
  evaluation.bins = measured.reliability;
  evaluation.curve = measured.curve;
  group_points(sets, batch, &evaluation);
  evaluation.samples = sample_lines(sets, batch, matcher);
  return evaluation;
}

void write_evaluation(const std::filesystem::path& dir, const std::vector<Evaluation>& evaluations,
                      const EvaluationInfo& info) {
  const Evaluation& main = evaluations.front();
  Json by_num_answers = Json::array();
  std::string samples;
  for (const Evaluation& evaluation : evaluations) {
    by_num_answers.push_back({{"num_answers", evaluation.num_answers},
                              {"metrics", to_json(evaluation.metrics)},
                              {"intervals", to_json(evaluation.intervals)}});
    samples += evaluation.samples;
  }
  const Json json = {{"title", info.title},
                     {"mode", info.mode},
                     {"confidence", info.confidence},
                     {"baseline", info.baseline},
                     {"model", info.model},
                     {"data", info.data},
                     {"data_name", info.data_name},
                     {"format", info.format},
                     {"matcher", info.matcher},
                     {"seed", info.seed},
                     {"sampling", info.sampling ? to_json(*info.sampling) : Json()},
                     {"prompts", info.prompts},
                     {"samples_per_prompt", info.samples_per_prompt},
                     {"num_answers", main.num_answers},
                     {"metrics", to_json(main.metrics)},
                     {"intervals", to_json(main.intervals)},
                     {"bins", to_json(main.bins)},
                     {"curve", to_json(main.curve)},
                     {"by_answer", to_json("answer", main.by_answer)},
                     {"by_source", to_json("source", main.by_source)},
                     {"by_num_answers", std::move(by_num_answers)}};
  detail::make_folders(dir);
  write_file_atomic(dir / "samples.jsonl", samples);
  // Last: a folder with metrics.json is a complete evaluation.
  write_file_atomic(dir / "metrics.json", json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n");
}

}  // namespace plural::eval
