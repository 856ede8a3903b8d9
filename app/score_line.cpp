// SPDX-License-Identifier: Apache-2.0
#include "app/score_line.h"

#include <ATen/ATen.h>

#include "app/stop_signal.h"
#include "lib/core/format.h"
#include "lib/eval/sample_record.h"
#include "plural/error.h"

namespace plural::app {
namespace {

/// The line as a data set example: fields that scoring does not need may be absent.
Example read_example(const InputLine& line) {
  nlohmann::json object = line.object;
  object.erase("completion");
  if (!object.contains("id")) object["id"] = line.place;
  if (!object.contains("prompt")) object["prompt"] = "";
  required(line.object, "gold");
  return parse_example(object.dump(), line.place);
}

}  // namespace

LineScorer::LineScorer(const RunConfig& config, const Registry<Reward>& rewards, const VariableLookup& variables)
    : format_(make_answer_format(config.format)),
      matcher_(make_matcher(config.matcher.name, config.matcher.options, variables)),
      rewards_(build_reward_stack(config.rewards, rewards)),
      num_answers_(format_->single() ? 1 : config.num_answers.front()) {}

/// What a line asks.
struct LineScorer::Question {
  Json id;  // null when the line has none
  std::string completion;
  Example example;
};

LineScorer::Question LineScorer::read(const InputLine& line) const {
  return {line.object.contains("id") ? line.object["id"] : Json(), required_string(line.object, "completion"),
          read_example(line)};
}

std::vector<Json> LineScorer::score(std::span<const Question> questions) const {
  std::vector<CompletionView> views;
  std::vector<const Example*> examples;
  std::vector<std::string> completions;
  for (const Question& question : questions) {
    views.push_back({&question.example, question.completion, {}, num_answers_});
    examples.push_back(&question.example);
    completions.push_back(question.completion);
  }
  const AnswerBatch batch = build_answer_batch(views, *format_, *matcher_, nullptr, at::kCPU, at::kFloat,
                                               stop_request());
  const RewardStack::Result result = rewards_.score({batch, examples, completions});
  // What was judged outside and went wrong there; the values of those parts are the rewards' fail values.
  std::vector<std::string> failures = result.problems;
  if (!batch.match_problem.empty()) failures.push_back("matcher: " + batch.match_problem);

  std::vector<Json> lines;
  for (size_t b = 0; b < questions.size(); ++b) {
    const Question& question = questions[b];
    const AnswerSet& set = batch.sets[b];
    const auto row = static_cast<int64_t>(b);
    Json answers = Json::array(), confidences = Json::array(), correct = Json::array(), parts = Json::object();
    const std::string_view text = question.completion;
    for (const Json& answer : eval::answers_record({&text, 1}, set, eval::matches_of_row(batch, row), *matcher_)) {
      answers.push_back(answer["text"]);
      confidences.push_back(answer["confidence"]);
      correct.push_back(answer["correct"]);
    }
    for (size_t i = 0; i < result.parts.size(); ++i) {
      const RewardOutput& part = result.parts[i];
      const bool valid = !part.valid.defined() || part.valid[row].item<bool>();
      parts[rewards_.terms()[i].name] = valid ? Json(part.row[row].item<double>()) : Json();
    }
    Json out = Json::object();
    if (!question.id.is_null()) out["id"] = question.id;
    out["answers"] = std::move(answers);
    out["confidences"] = std::move(confidences);
    out["correct"] = std::move(correct);
    out["format_ok"] = set.format_ok;
    out["problem"] = set.problem;
    out["rewards"] = std::move(parts);
    out["total"] = result.total[row].item<double>();
    if (!failures.empty()) out["failures"] = failures;
    out["error"] = nullptr;
    lines.push_back(std::move(out));
  }
  return lines;
}

Json LineScorer::operator()(const InputLine& line) const {
  const Question question = read(line);
  return score({&question, 1}).front();
}

std::vector<std::vector<Json>> LineScorer::operator()(std::vector<InputLine*>& lines) const {
  std::vector<std::vector<Json>> results(lines.size());
  const auto guarded = [&](size_t i, const auto& work) {
    try {
      work();
    } catch (const InputError& error) {
      lines[i]->error = fmt::format("{}: {}", lines[i]->place, error.what());
    } catch (const nlohmann::json::exception& error) {
      lines[i]->error = fmt::format("{}: {}", lines[i]->place, plain_message(error));
    }
  };
  std::vector<Question> questions;
  std::vector<size_t> places;
  for (size_t i = 0; i < lines.size(); ++i) {
    guarded(i, [&] {
      questions.push_back(read(*lines[i]));
      places.push_back(i);
    });
  }
  try {
    std::vector<Json> scored = score(questions);
    for (size_t i = 0; i < places.size(); ++i) results[places[i]] = {std::move(scored[i])};
  } catch (const InputError&) {
    // A reward cannot use one of the examples: which one shows when each is scored alone.
    for (size_t i = 0; i < places.size(); ++i)
      guarded(places[i], [&] { results[places[i]] = {score({&questions[i], 1}).front()}; });
  }
  return results;
}

}  // namespace plural::app
