// SPDX-License-Identifier: Apache-2.0
// plural score: completions with gold answers to parsed answers and rewards.
#include <memory>

#include "app/commands.h"
#include "app/line_io.h"
#include "app/run_config_file.h"
#include "app/score_line.h"
#include "app/shared_options.h"
#include "lib/train/prompts.h"
#include "plural/answers.h"
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

int score(const ScoreArgs& args) {
  RunConfig config;
  config.rewards = default_rewards();
  if (!args.config.file.empty()) config = load_checked_config(args.config.file, args.config.overrides);
  if (!args.format.empty()) config.format = args.format;
  if (!args.matcher.empty()) config.matcher = {args.matcher, {}};
  if (args.num_answers > 0) {
    config.num_answers = {args.num_answers};
    check_num_answers(*make_answer_format(config.format), config.num_answers);
  }
  const LineScorer scorer(config, rewards_of(config), environment);
  return map_batches(args.io, scorer.batch(), [&](std::vector<InputLine*>& lines) { return scorer(lines); });
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
