// SPDX-License-Identifier: Apache-2.0
// run_training: the loop around a trainer that makes it a run on disk. Order within a step:
// samples, metrics, checkpoint. A process killed anywhere resumes from the newest checkpoint, and
// what later steps had written is dropped first, so nothing shows twice.
#include "plural/run.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <deque>
#include <optional>

#include "lib/core/format.h"
#include "lib/eval/evaluator.h"
#include "lib/train/run_folder.h"
#include "lib/train/run_parts.h"
#include "lib/train/stop_relay.h"
#include "plural/checkpoint.h"
#include "plural/device.h"
#include "plural/error.h"
#include "plural/evaluation.h"

namespace plural {
namespace {

constexpr int64_t kStepsBetweenReleases = 10;  // of freed memory

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
      : config_(config), options_(options), stop_(options.stop), folder_(config, options.resume) {
    const FileHashes hashes = hash_inputs(config_);
    if (folder_.resuming()) folder_.check_inputs(hashes);
    parts_ = build_run_parts(config_, rewards, options_.variables);
    // It looks at each example, so that lengths can be taken.
    trainer_ = make_run_trainer(config_, *parts_, stop_.token());
    const int64_t longest = check_prompt_lengths(config_, *parts_);
    check_best_metric();
    if (const std::string odd = end_token_warning(parts_->tokenizer, *parts_->policy, config_.model); !odd.empty())
      say(fmt::format("warning: {}\n", odd));
    say(describe_run(config_, *parts_, longest));
    if (config_.task == "rl") {
      const int64_t k = parts_->format->single() ? 1 : std::ranges::max(config_.num_answers);
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
    try {
      return train_and_save();
    } catch (const WriteError& error) {
      throw WriteError(fmt::format(
          "{}\nsteps up to the newest checkpoint are kept; once there is room, go on with --resume", error.what()));
    } catch (const DivergedError& error) {
      throw DivergedError(fmt::format("{}\n{}", error.what(), after_divergence()));
    }
  }

 private:
  RunResult train_and_save() {
    if (step_ == 0 && evaluates()) write_metrics(0, evaluate());
    if (!train()) return {step_, false, {}};
    if (saved_step_ != step_) checkpoint();
    if (saved_model_stale_ || !std::filesystem::exists(folder_.model())) {
      folder_.save_model(*parts_->policy);
      if (parts_->critic) folder_.save_critic(*parts_->critic);
    }
    if (best_)
      say(fmt::format("best {} {:.4f} after step {}: {}\n", best_->metric, best_->value, best_->step,
                      folder_.best().string()));
    return {step_, true, folder_.model()};
  }

  void say(const std::string& text) const {
    if (options_.message) options_.message(text);
  }

  /// The same trouble every time is told once. `last`: what was told of before.
  void tell(const std::string& when, const std::vector<std::string>& notes, std::vector<std::string>* last) const {
    if (notes != *last)
      for (const std::string& note : notes) say(fmt::format("note: {}: {}\n", when, note));
    *last = notes;
  }

  void restore() {
    std::vector<std::string> skipped;
    std::optional<TrainState> state;
    if (folder_.resuming()) state = load_newest_checkpoint(folder_.path(), &skipped);
    for (const std::string& path : skipped)
      say(fmt::format("note: passed over a damaged checkpoint for an older one: {}\n", path));
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
    // It may be of a later step than the checkpoint: that step comes again, with the same value, and changes nothing.
    if (folder_.resuming() && !config_.evaluation.best.empty()) best_ = folder_.load_best();
  }

  /// What can be done about it: a resumed run takes the same steps again, and its settings are fixed.
  std::string after_divergence() const {
    if (step_ == 0) return fmt::format("no step was trained yet, so it is the weights in {}", config_.model);
    std::string advice = fmt::format(
        "this happened after step {} of {}, and --resume takes the same steps again. Start a new run in another output "
        "folder with a lower optimizer.learning_rate (or optimizer.max_grad_norm), from model {}",
        step_, config_.steps, config_.model);
    if (best_ && best_->step > 0) advice += fmt::format(", from {} (of step {})", folder_.best().string(), best_->step);
    return advice +
           fmt::format(" or from one of the checkpoints in {} (docs/guides/run.md: \"A checkpoint as a model\")",
                       (folder_.path() / "checkpoints").string());
  }

  /// False when asked to stop.
  bool train() {
    // Sampling is by far the longest part of a step, and may be given up, as is waiting for a matcher that asks
    // outside: the trainer is then as before the step.
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
      tell(fmt::format("step {}", step_), report.notes, &notes_);
      if (config_.samples.every > 0 && step_ % config_.samples.every == 0) {
        if (const std::string lines = trainer_->sample_lines(step_); !lines.empty())
          folder_.write_samples(step_, lines);
      }
      if (evaluates() && (step_ % config_.evaluation.every == 0 || trainer_->done())) report.metrics.merge(evaluate());
      write_metrics(step_, report.metrics);
      if (config_.checkpoint.every > 0 && step_ % config_.checkpoint.every == 0) checkpoint();
      if (step_ % kStepsBetweenReleases == 0) release_freed_memory();
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

  /// One evaluation of every held-out set: "eval/coverage", or "eval/SET/coverage" when there are several.
  MetricMap evaluate() {
    const EvaluationConfig& settings = config_.evaluation;
    eval::AskOptions options;
    options.num_answers = evaluation_answers();
    options.samples_per_prompt = settings.samples_per_prompt;
    options.sampling = settings.sampling;
    options.seed = static_cast<uint64_t>(config_.seed);
    evaluating_ = true;  // a stop waits for the end: the step's record is written once
    MetricMap metrics;
    std::vector<std::string> notes;
    for (const HeldOut& set : parts_->held_out) {
      const auto sets = eval::sample_sets(
          {*parts_->engine, parts_->tokenizer, set.examples, *parts_->format, parts_->policy->context_length()},
          options);
      const eval::Evaluation evaluation = eval::evaluate(sets, options.num_answers, *parts_->format, *parts_->matcher);
      for (const auto& [name, value] : evaluation.metrics) metrics[metric_prefix(set) + name] = value;
      if (!evaluation.match_problem.empty())
        notes.push_back(fmt::format("{}some answers could not be judged and count as wrong: {}",
                                    set.name.empty() ? "" : set.name + ": ", evaluation.match_problem));
    }
    tell(fmt::format("evaluation after step {}", step_), notes, &evaluation_notes_);
    evaluating_ = false;
    keep_if_best(metrics);
    return metrics;
  }

  static std::string metric_prefix(const HeldOut& set) { return set.name.empty() ? "eval/" : "eval/" + set.name + "/"; }

  int64_t evaluation_answers() const {
    const int64_t answers = config_.evaluation.num_answers > 0 ? config_.evaluation.num_answers
                                                               : config_.num_answers.front();
    return parts_->format->single() ? 1 : answers;
  }

  /// The name in metrics.jsonl of what evaluation.best names.
  std::string best_metric() const {
    const std::string& name = config_.evaluation.best;
    for (const HeldOut& set : parts_->held_out)
      if (!set.name.empty() && name.starts_with(set.name + "/")) return "eval/" + name;
    return metric_prefix(parts_->held_out.front()) + name;
  }

  /// Before hours of training, not after the first evaluation.
  void check_best_metric() const {
    if (config_.evaluation.best.empty()) return;
    const std::string wanted = best_metric();
    const std::vector<std::string> names = set_metric_names(evaluation_answers(),
                                                            config_.evaluation.samples_per_prompt);
    for (const HeldOut& set : parts_->held_out)
      for (const std::string& name : names)
        if (metric_prefix(set) + name == wanted && better_direction(name) != 0) return;
    throw InputError(
        fmt::format("evaluation.best: '{}' is no metric of an evaluation that can be better or worse; the "
                    "metrics are {}",
                    config_.evaluation.best, fmt::join(names, ", ")));
  }

  void keep_if_best(const MetricMap& metrics) {
    if (config_.evaluation.best.empty()) return;
    const std::string name = best_metric();
    const double value = metrics.at(name);
    const int direction = better_direction(std::string_view(name).substr(name.rfind('/') + 1));
    if (!std::isfinite(value) || (best_ && direction * value <= direction * best_->value)) return;
    best_ = BestModel{step_, config_.evaluation.best, value};
    folder_.save_best(*parts_->policy, *best_);
  }

  const RunConfig& config_;
  const RunOptions& options_;
  StopRelay stop_;
  RunFolder folder_;
  std::unique_ptr<RunParts> parts_;
  std::unique_ptr<RunTrainer> trainer_;
  std::unique_ptr<MetricSink> lines_, board_;
  int64_t step_ = 0;
  std::optional<BestModel> best_;   ///< in best/
  std::vector<std::string> notes_;  ///< of the last step
  std::vector<std::string> evaluation_notes_;
  int64_t saved_step_ = 0;          ///< of the newest checkpoint; a fresh run needs none for step 0
  bool saved_model_stale_ = false;  ///< model/ is absent or older than the weights
  bool evaluating_ = false;
};

}  // namespace

RunResult run_training(const RunConfig& config, const RunOptions& options, const Registry<Reward>& rewards) {
  return Run(config, options, rewards).loop();
}

}  // namespace plural
