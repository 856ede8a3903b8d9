// SPDX-License-Identifier: Apache-2.0
// plural score: completions with gold answers to parsed answers and rewards.
#include <ATen/ATen.h>

#include <memory>
#include <set>

#include "app/commands.h"
#include "app/line_io.h"
#include "app/run_config_file.h"
#include "app/shared_options.h"
#include "lib/core/format.h"
#include "lib/eval/sample_record.h"
#include "lib/train/prompts.h"
#include "plural/answers.h"
#include "plural/error.h"
#include "plural/reward.h"

namespace plural::app {
namespace {

struct ScoreArgs {
  IoPaths io;
  ConfigFileArgs config;
  std::string format, matcher;
  int64_t num_answers = 0;
};

/// The rewards used without a configuration: the set rewards with weight 1 each.
std::vector<PartSpec> default_rewards() {
  std::vector<PartSpec> specs;
  for (const char* name : {"format", "coverage", "brier"}) {
    PartSpec spec;
    spec.name = name;
    spec.options.kind = ConfigNode::Kind::kMap;
    specs.push_back(std::move(spec));
  }
  return specs;
}

/// The line as a data set example: fields that scoring does not need may be absent.
Example read_example(const InputLine& line) {
  nlohmann::json object = line.object;
  object.erase("completion");
  if (!object.contains("id")) object["id"] = line.place;
  if (!object.contains("prompt")) object["prompt"] = "";
  required(line.object, "gold");
  return parse_example(object.dump(), line.place);
}

int score(const ScoreArgs& args) {
  RunConfig config;
  config.rewards = default_rewards();
  if (!args.config.file.empty()) config = load_checked_config(args.config.file, args.config.overrides);
  if (!args.format.empty()) config.format = args.format;
  if (!args.matcher.empty()) config.matcher = args.matcher;
  if (args.num_answers > 0) config.num_answers = args.num_answers;
  const auto format = make_answer_format(config.format);
  if (args.num_answers > 0) check_num_answers(*format, args.num_answers);
  const auto matcher = make_matcher(config.matcher);
  const RewardStack rewards = build_reward_stack(config.rewards, builtin_rewards());
  const int64_t k = format->single() ? 1 : config.num_answers;

  return map_lines(args.io, [&](const InputLine& line) -> std::vector<Json> {
    const std::string completion = required_string(line.object, "completion");
    const Example example = read_example(line);
    const CompletionView view{&example, completion, {}, k};
    const AnswerBatch batch = build_answer_batch({&view, 1}, *format, *matcher, nullptr);
    const Example* const examples[] = {&example};
    const RewardStack::Result result = rewards.score({batch, examples, {&completion, 1}});

    const AnswerSet& set = batch.sets.front();
    Json answers = Json::array(), confidences = Json::array(), correct = Json::array(), parts = Json::object();
    const std::string_view text = completion;
    for (const Json& answer : eval::answers_record({&text, 1}, set, example, *matcher)) {
      answers.push_back(answer["text"]);
      confidences.push_back(answer["confidence"]);
      correct.push_back(answer["correct"]);
    }
    for (size_t i = 0; i < result.parts.size(); ++i) {
      const RewardOutput& part = result.parts[i];
      const bool valid = !part.valid.defined() || part.valid[0].item<bool>();
      parts[rewards.terms()[i].name] = valid ? Json(part.row[0].item<double>()) : Json();
    }
    Json out = Json::object();
    if (line.object.contains("id")) out["id"] = line.object["id"];
    out["answers"] = std::move(answers);
    out["confidences"] = std::move(confidences);
    out["correct"] = std::move(correct);
    out["format_ok"] = set.format_ok;
    out["problem"] = set.problem;
    out["rewards"] = std::move(parts);
    out["total"] = result.total[0].item<double>();
    out["error"] = nullptr;
    return {std::move(out)};
  });
}

}  // namespace

void add_score(CLI::App& app, int* exit_code) {
  auto args = std::make_shared<ScoreArgs>();
  CLI::App* command = app.add_subcommand(
      "score",
      "Scores completions: {\"completion\", \"gold\", ...} -> {\"answers\", \"confidences\", "
      "\"correct\", \"format_ok\", "
      "\"rewards\", \"total\", \"error\"}");
  add_io_options(*command, &args->io);
  add_config_options(*command, &args->config,
                     "format, K, matcher and rewards (without one: the rewards format + coverage + brier)");
  add_format_option(*command, &args->format);
  add_matcher_option(*command, &args->matcher);
  command->add_option("--num-answers", args->num_answers, "K, answers asked for (default 3)")
      ->check(num_answers_range());
  command->callback([=] { *exit_code = score(*args); });
}

}  // namespace plural::app
