// SPDX-License-Identifier: Apache-2.0
// plural train: a run folder from a YAML file, with a live progress line.
#include <unistd.h>

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "app/commands.h"
#include "app/run_config_file.h"
#include "app/shared_options.h"
#include "app/stop_signal.h"
#include "lib/core/format.h"
#include "plural/run.h"

namespace plural::app {
namespace {

struct TrainArgs {
  std::string config;
  std::vector<std::string> overrides;
  bool resume = false;
};

std::string duration(double seconds) {
  const auto s = static_cast<int64_t>(seconds + 0.5);
  if (s >= 3600) return fmt::format("{}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60);
  return fmt::format("{}:{:02}", s / 60, s % 60);
}

/// One line on a terminal, rewritten at each step; elsewhere a line every ten seconds and at the
/// end.
class ProgressLine {
 public:
  void show(const RunProgress& progress) {
    const bool last = progress.step == progress.steps;
    const auto now = std::chrono::steady_clock::now();
    if (!terminal_ && !last && shown_ && now - last_time_ < std::chrono::seconds(10)) return;
    shown_ = true;
    last_time_ = now;
    const std::string text = line(progress);
    if (terminal_) {
      fmt::print(stderr, "\r\x1b[K{}{}", text, last ? "\n" : "");
      open_ = !last;
    } else {
      fmt::print(stderr, "{}\n", text);
    }
  }
  /// Messages start on a line of their own.
  void end_line() {
    if (open_) fmt::print(stderr, "\n");
    open_ = false;
  }

 private:
  static std::string line(const RunProgress& progress) {
    const MetricMap& metrics = *progress.metrics;
    std::string text = fmt::format("step {}/{}", progress.step, progress.steps);
    const auto add = [&](const char* label, const char* name, int digits) {
      const auto it = metrics.find(name);
      if (it != metrics.end()) text += fmt::format("  {} {:.{}f}", label, it->second, digits);
    };
    if (!metrics.contains("reward/total/mean")) add("loss", "loss", 4);
    add("reward", "reward/total/mean", 3);
    add("coverage", "answers/coverage", 3);
    add("Brier", "answers/brier", 3);
    add("format", "answers/format_rate", 2);
    add("tokens/s", "rate/tokens_per_s", 0);
    return text + fmt::format("  left {}", duration(progress.seconds_left));
  }

  bool terminal_ = ::isatty(STDERR_FILENO) != 0;
  bool shown_ = false, open_ = false;
  std::chrono::steady_clock::time_point last_time_;
};

/// The --set options again, for the command that resumes.
std::string override_text(const std::vector<std::string>& overrides) {
  std::string text;
  for (const std::string& assignment : overrides) text += fmt::format("--set '{}' ", assignment);
  return text;
}

int train(const TrainArgs& args) {
  const RunConfig config = load_checked_config(args.config, args.overrides);
  ProgressLine line;
  RunOptions options;
  options.resume = args.resume;
  options.stop = stop_token();
  options.variables = environment;
  options.message = [&](const std::string& text) {
    line.end_line();
    fmt::print(stderr, "{}", text);
  };
  options.progress = [&](const RunProgress& progress) { line.show(progress); };
  RunResult result;
  try {
    result = run_training(config, options, rewards_of(config));
  } catch (...) {
    line.end_line();
    throw;
  }
  line.end_line();
  if (!result.finished) {
    fmt::print(
        stderr, "plural: stopped after step {} of {}; {}. Go on with:\n  plural train {} {}--resume\n", result.step,
        config.steps,
        result.step > 0 ? fmt::format("the checkpoint is in {}/checkpoints", config.output) : "nothing was trained yet",
        args.config, override_text(args.overrides));
    return 130;
  }
  fmt::print(stderr, "plural: finished {} steps; the model is in {}\n", result.step, result.model.string());
  return 0;
}

}  // namespace

void add_train(CLI::App& app, int* exit_code) {
  auto args = std::make_shared<TrainArgs>();
  CLI::App* command = app.add_subcommand("train",
                                         "Trains a model as a YAML file says (reinforcement learning or fine-tuning)");
  command->add_option("CONFIG", args->config, "YAML file; `plural config` lists its keys")->required();
  add_override_option(*command, &args->overrides);
  command->add_flag("--resume", args->resume,
                    "go on from the newest checkpoint of the output folder; a fresh start when there is none");
  command->callback([=] { *exit_code = train(*args); });
}

}  // namespace plural::app
