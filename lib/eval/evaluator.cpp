// SPDX-License-Identifier: Apache-2.0
#include "lib/eval/evaluator.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <charconv>

#include "lib/core/format.h"
#include "lib/eval/sample_record.h"
#include "plural/checkpoint.h"
#include "plural/error.h"
#include "plural/evaluation.h"

namespace plural::eval {
namespace {

using Json = nlohmann::ordered_json;

/// Prompts generated together: enough to keep the engine full, few enough for frequent progress.
constexpr int64_t kPromptsAtOnce = 32;

/// K single answers read as one set. A "completion" is the number of the set in `sets`; everything
/// else is the format of the single answers.
class CollectedFormat final : public AnswerFormat {
 public:
  CollectedFormat(const AnswerFormat& single, std::vector<AnswerSet> sets) : single_(single), sets_(std::move(sets)) {}
  std::string name() const override { return single_.name(); }
  bool has_confidences() const override { return single_.has_confidences(); }
  std::string instruction(int64_t k) const override { return single_.instruction(k); }
  std::string render(std::span<const StatedAnswer> answers) const override { return single_.render(answers); }
  AnswerSet parse(std::string_view text, int64_t) const override {
    size_t index = 0;
    std::from_chars(text.data(), text.data() + text.size(), index);
    return sets_.at(index);
  }

 private:
  const AnswerFormat& single_;
  std::vector<AnswerSet> sets_;
};

/// The answers of K completions in order; a completion without an answer leaves an empty slot.
AnswerSet collect(const AnswerFormat& format, std::span<const Completion> completions) {
  AnswerSet all;
  all.format_ok = all.extracted = all.paired = true;
  for (const Completion& completion : completions) {
    AnswerSet set = format.parse(completion.text, 1);
    all.format_ok = all.format_ok && set.format_ok;
    all.extracted = all.extracted && set.extracted;
    all.paired = all.paired && set.paired;
    if (all.problem.empty()) all.problem = set.problem;
    all.answers.push_back(set.answers.empty() ? Answer{} : std::move(set.answers.front()));
  }
  return all;
}

/// The sets of some consecutive prompts, one entry for each row (prompt-major).
struct Sets {
  std::vector<const Example*> examples;
  std::vector<std::vector<Completion>> completions;  ///< one, or K single ones
};

AnswerBatch read_sets(const EvaluatorParts& parts, const EvaluatorOptions& options, const Sets& sets) {
  std::vector<CompletionView> views;
  if (!options.independent) {
    for (size_t row = 0; row < sets.examples.size(); ++row) {
      const Completion& completion = sets.completions[row].front();
      views.push_back({sets.examples[row], completion.text, completion.ids, options.num_answers});
    }
    return build_answer_batch(views, parts.format, parts.matcher, &parts.tokenizer);
  }
  std::vector<AnswerSet> collected;
  std::vector<std::string> names;
  std::vector<std::vector<TokenId>> ids;
  for (size_t row = 0; row < sets.examples.size(); ++row) {
    collected.push_back(collect(parts.format, sets.completions[row]));
    names.push_back(std::to_string(row));
    ids.emplace_back();
    for (const Completion& completion : sets.completions[row])
      ids[row].insert(ids[row].end(), completion.ids.begin(), completion.ids.end());
  }
  const CollectedFormat format(parts.format, std::move(collected));
  for (size_t row = 0; row < names.size(); ++row)
    views.push_back({sets.examples[row], names[row], ids[row], options.num_answers});
  return build_answer_batch(views, format, parts.matcher, &parts.tokenizer);
}

Sets sample_sets(const EvaluatorParts& parts, const EvaluatorOptions& options) {
  const int64_t asked = options.independent ? 1 : options.num_answers;
  const int64_t pieces = options.independent ? options.num_answers : 1;  // completions of one set
  SamplingOptions sampling = options.sampling;
  sampling.samples_per_prompt = options.samples_per_prompt * pieces;
  const auto count = static_cast<int64_t>(parts.examples.size());
  Sets sets;
  for (int64_t begin = 0; begin < count; begin += kPromptsAtOnce) {
    if (options.progress) options.progress(begin, count);
    std::vector<std::vector<TokenId>> prompts;
    for (int64_t i = begin; i < std::min(count, begin + kPromptsAtOnce); ++i) {
      prompts.push_back(evaluation_prompt(parts, parts.examples[static_cast<size_t>(i)], asked));
    }
    RolloutBatch batch = parts.engine.generate(
        prompts, sampling, {options.seed, 0, static_cast<uint64_t>(begin * sampling.samples_per_prompt)});
    for (size_t row = 0; row < batch.rows.size(); row += static_cast<size_t>(pieces)) {
      const size_t example = static_cast<size_t>(begin) + row / static_cast<size_t>(sampling.samples_per_prompt);
      sets.examples.push_back(&parts.examples[example]);
      const auto first = std::make_move_iterator(batch.rows.begin() + static_cast<int64_t>(row));
      sets.completions.emplace_back(first, first + pieces);
    }
  }
  if (options.progress) options.progress(count, count);
  return sets;
}

std::string sample_lines(const EvaluatorParts& parts, const EvaluatorOptions& options, const Sets& sets,
                         const AnswerBatch& batch) {
  std::string lines;
  for (size_t row = 0; row < sets.examples.size(); ++row) {
    Json record = sample_record(*sets.examples[row], sets.completions[row].front(), batch.sets[row], parts.matcher);
    if (options.independent) {
      record.erase("completion");
      Json completions = Json::array();
      size_t tokens = 0;
      for (const Completion& completion : sets.completions[row]) {
        completions.push_back(completion.text);
        tokens += completion.ids.size();
      }
      record["completions"] = std::move(completions);
      record["tokens"] = tokens;
    }
    record["num_answers"] = options.num_answers;
    record["sample"] = static_cast<int64_t>(row) % options.samples_per_prompt;
    lines += json_line(record);
  }
  return lines;
}

Json metrics_json(const MetricMap& metrics) {
  Json json = Json::object();
  for (const auto& [name, value] : metrics) json[name] = value;  // NaN (undefined) becomes null
  return json;
}

}  // namespace

std::vector<TokenId> evaluation_prompt(const EvaluatorParts& parts, const Example& example, int64_t k) {
  return parts.tokenizer.encode_chat(render_prompt(example.prompt, parts.format, k));
}

void write_evaluation(const std::filesystem::path& dir, const std::vector<Evaluation>& evaluations,
                      const EvaluatorOptions& options, const EvaluationInfo& info) {
  const Evaluation& main = evaluations.front();
  Json bins = Json::array(), by_num_answers = Json::array();
  std::string samples;
  for (const ReliabilityBar& bin : main.bins) {
    bins.push_back({{"low", bin.low},
                    {"high", bin.high},
                    {"count", bin.count},
                    {"confidence", bin.confidence},
                    {"accuracy", bin.accuracy}});
  }
  for (const Evaluation& evaluation : evaluations) {
    by_num_answers.push_back({{"num_answers", evaluation.num_answers}, {"metrics", metrics_json(evaluation.metrics)}});
    samples += evaluation.samples;
  }
  const Json json = {{"title", info.title},
                     {"mode", options.independent ? "independent" : "set"},
                     {"model", info.model},
                     {"data", info.data},
                     {"format", info.format},
                     {"matcher", info.matcher},
                     {"seed", options.seed},
                     {"prompts", info.prompts},
                     {"samples_per_prompt", options.samples_per_prompt},
                     {"num_answers", main.num_answers},
                     {"metrics", metrics_json(main.metrics)},
                     {"bins", std::move(bins)},
                     {"by_num_answers", std::move(by_num_answers)}};
  std::error_code error;
  std::filesystem::create_directories(dir, error);
  if (error) throw SystemError(fmt::format("--out {}: cannot be created: {}", dir.string(), error.message()));
  write_file_atomic(dir / "samples.jsonl", samples);
  // Last: a folder with metrics.json is a complete evaluation.
  write_file_atomic(dir / "metrics.json", json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n");
}

Evaluation evaluate_answers(const EvaluatorParts& parts, const EvaluatorOptions& options) {
  PLURAL_CHECK(options.num_answers >= 1 && options.samples_per_prompt >= 1,
               "num_answers and samples_per_prompt are at least 1");
  if (!options.independent && parts.format.single() && options.num_answers != 1) {
    throw InputError(fmt::format("num_answers: format '{}' holds one answer, {} were asked for", parts.format.name(),
                                 options.num_answers));
  }
  const Sets sets = sample_sets(parts, options);
  const AnswerBatch batch = read_sets(parts, options, sets);
  Evaluation evaluation;
  evaluation.num_answers = options.num_answers;
  const SetMetrics metrics = evaluate_sets(batch);
  evaluation.metrics = to_metric_map(metrics);
  evaluation.metrics["distinct_correct"] = metrics.coverage * static_cast<double>(options.num_answers);
  for (const auto& bin : metrics.reliability) {
    evaluation.bins.push_back(
        {bin.low, bin.high, static_cast<double>(bin.count), bin.mean_confidence, bin.mean_correct});
  }
  evaluation.samples = sample_lines(parts, options, sets, batch);
  return evaluation;
}

}  // namespace plural::eval
