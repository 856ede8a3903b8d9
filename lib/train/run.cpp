// SPDX-License-Identifier: Apache-2.0
// run_training: the loop around a trainer that makes it a run on disk. Order within a step:
// samples, metrics, checkpoint. A process killed anywhere resumes from the newest checkpoint, and
// what later steps had written is dropped first, so nothing shows twice.
#include "plural/run.h"

#include <chrono>
#include <deque>

#include "lib/core/format.h"
#include "lib/eval/evaluator.h"
#include "lib/train/run_folder.h"
#include "lib/train/run_parts.h"
#include "plural/checkpoint.h"
#include "plural/error.h"

namespace plural {
namespace {

/// Wall time of the last steps, for the estimate of the time left.
class StepClock {
 public:
  void lap() {
    const auto now = std::chrono::steady_clock::now();
    laps_.push_back(std::chrono::duration<double>(now - last_).count());
    if (laps_.size() > 20) laps_.pop_front();
    last_ = now;
  }
  double seconds_left(int64_t steps) const {
    double sum = 0;
    for (const double lap : laps_) sum += lap;
    return laps_.empty() ? 0 : sum / static_cast<double>(laps_.size()) * static_cast<double>(steps);
  }

 private:
  std::chrono::steady_clock::time_point last_ = std::chrono::steady_clock::now();
  std::deque<double> laps_;
};

class Run {
 public:
  Run(const RunConfig& config, const RunOptions& options, const Registry<Reward>& rewards)
      : config_(config), options_(options), folder_(config, options.resume) {
    const FileHashes hashes = hash_inputs(config_);
    if (folder_.resuming()) folder_.check_inputs(hashes);
    parts_ = build_run_parts(config_, rewards);
    trainer_ = make_run_trainer(config_, *parts_);  // looks at each example, so that lengths can be taken
    const int64_t longest = check_prompt_lengths(config_, *parts_);
    say(describe_run(config_, *parts_, longest));
    if (config_.task == "rl") {
      const int64_t k = parts_->format->single() ? 1 : config_.num_answers;
      for (const std::string& warning : parts_->rewards.warnings(k)) say(fmt::format("warning: {}\n", warning));
    }
    if (longest + config_.sampling.max_new_tokens > parts_->policy->context_length() && config_.task == "rl") {
      say(
          fmt::format("note: the longest prompt ({} tokens) and max_new_tokens ({}) together pass "
                      "the context of {}: its "
                      "completions end early\n",
                      longest, config_.sampling.max_new_tokens, parts_->policy->context_length()));
    }
    if (!folder_.resuming()) folder_.create(config_, hashes);
    restore();
  }

  RunResult loop() {
    bool stopped = false;
    try {
      if (step_ == 0 && evaluates()) write_metrics(0, evaluate());
      stopped = !train();
    } catch (const SystemError& error) {
      throw SystemError(fmt::format(
          "{}\nsteps up to the newest checkpoint are kept; once there is room, go on with --resume", error.what()));
    }
    if (stopped) return {step_, false, {}};
    if (saved_step_ != step_) checkpoint();
    if (saved_model_stale_ || !std::filesystem::exists(folder_.model())) folder_.save_model(*parts_->policy);
    return {step_, true, folder_.model()};
  }

 private:
  void say(const std::string& text) const {
    if (options_.message) options_.message(text);
  }

  void restore() {
    std::vector<std::string> skipped;
    std::optional<TrainState> state;
    if (folder_.resuming()) state = load_newest_checkpoint(folder_.path(), &skipped);
    for (const std::string& path : skipped)
      say(fmt::format("note: {} is damaged; an older checkpoint is used\n", path));
    if (state) {
      trainer_->restore(*state);
      step_ = saved_step_ = state->step;
      say(fmt::format("resuming after step {} of {}\n", step_, config_.steps));
    } else if (folder_.resuming()) {
      say("no checkpoint yet: starting from the first step\n");
    }
    folder_.drop_after(step_);
    const int64_t keep_until = state ? step_ : -1;
    lines_ = make_json_lines_sink(folder_.path() / "metrics.jsonl", keep_until);
    board_ = make_tensorboard_sink(folder_.path() / "tensorboard", keep_until);
  }

  /// False when asked to stop.
  bool train() {
    // Sampling is by far the longest part of a step, and may be given up: the trainer is then as
    // before the step.
    if (options_.stop.stop_possible()) {
      parts_->engine->set_progress(
          [this](int64_t, int64_t, int64_t) { return evaluating_ || !options_.stop.stop_requested(); });
    }
    StepClock clock;
    while (!trainer_->done()) {
      if (options_.stop.stop_requested()) return stop();
      StepReport report;
      try {
        report = trainer_->step();
      } catch (const Interrupted&) {
        return stop();
      }
      step_ = report.step;
      saved_model_stale_ = true;
      if (config_.samples.every > 0 && step_ % config_.samples.every == 0) {
        if (const std::string lines = trainer_->sample_lines(step_); !lines.empty())
          folder_.write_samples(step_, lines);
      }
      if (evaluates() && (step_ % config_.evaluation.every == 0 || trainer_->done())) report.metrics.merge(evaluate());
      write_metrics(step_, report.metrics);
      if (config_.checkpoint.every > 0 && step_ % config_.checkpoint.every == 0) checkpoint();
      clock.lap();
      if (options_.progress) {
        options_.progress({step_, config_.steps, clock.seconds_left(config_.steps - step_), &report.metrics});
      }
    }
    return true;
  }

  bool stop() {
    if (saved_step_ != step_) checkpoint();
    return false;
  }

  void checkpoint() {
    save_checkpoint(folder_.path(), trainer_->state(), config_.checkpoint.keep);
    saved_step_ = step_;
  }

  void write_metrics(int64_t step, const MetricMap& metrics) {
    lines_->write(step, metrics);
    board_->write(step, metrics);
  }

  bool evaluates() const { return config_.evaluation.every > 0 && !parts_->held_out.empty(); }

  MetricMap evaluate() {
    const EvaluationConfig& settings = config_.evaluation;
    eval::EvaluatorOptions options;
    options.num_answers = settings.num_answers > 0 ? settings.num_answers : config_.num_answers;
    options.samples_per_prompt = settings.samples_per_prompt;
    options.sampling = settings.sampling;
    options.seed = static_cast<uint64_t>(config_.seed);
    evaluating_ = true;  // a stop waits for the end: the step's record is written once
    const eval::Evaluation evaluation = eval::evaluate_answers(
        {*parts_->engine, parts_->tokenizer, parts_->held_out, *parts_->format, *parts_->matcher}, options);
    evaluating_ = false;
    MetricMap metrics;
    for (const auto& [name, value] : evaluation.metrics) metrics["eval/" + name] = value;
    return metrics;
  }

  const RunConfig& config_;
  const RunOptions& options_;
  RunFolder folder_;
  std::unique_ptr<RunParts> parts_;
  std::unique_ptr<RunTrainer> trainer_;
  std::unique_ptr<MetricSink> lines_, board_;
  int64_t step_ = 0;
  int64_t saved_step_ = 0;          ///< of the newest checkpoint; a fresh run needs none for step 0
  bool saved_model_stale_ = false;  ///< model/ is absent or older than the weights
  bool evaluating_ = false;
};

}  // namespace

RunResult run_training(const RunConfig& config, const RunOptions& options, const Registry<Reward>& rewards) {
  return Run(config, options, rewards).loop();
}

}  // namespace plural
