// SPDX-License-Identifier: Apache-2.0
// The configuration of `plural train`: one YAML file, one struct. Paths are relative to the current directory.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "plural/config.h"
#include "plural/critic.h"
#include "plural/data_options.h"
#include "plural/objective.h"
#include "plural/optimizer.h"
#include "plural/rollout.h"

namespace plural {

struct DataConfig {
  std::string train;
  int64_t limit = 0;

  using config_struct = void;
  template <class V>
  void fields(V& v) {
    v.field("train", train, required_value(), "training data, JSON Lines");
    v.field("limit", limit, at_least(0), "use only the first examples; 0 = all");
  }
};

/// Fine-tuning (task: sft).
struct SftConfig {
  int64_t rows_per_step = 16;
  std::string target = "gold";
  std::vector<int64_t> num_answers = {3};
  std::vector<double> confidences = {0.5};
  std::string confidence_source = "uniform";
  double confidence_power = 1;

  using config_struct = void;
  template <class V>
  void fields(V& v) {
    v.field("rows_per_step", rows_per_step, at_least(1), "rows of one optimiser step");
    v.field(
        "target", target, one_of({"gold", "responses"}),
        "gold: fresh sets of answers drawn from the gold distribution; responses: the data's responses as they are");
    v.field("num_answers", num_answers, at_least(1), "gold: K is drawn from these for each row");
    v.field("confidences", confidences, between(0, 1), "gold: the confidences that may be stated");
    v.field("confidence_source", confidence_source, one_of({"uniform", "weight"}),
            "gold: uniform: any of confidences, whatever the answer; weight: the one nearest to the answer's share of "
            "the gold weights to the power confidence_power");
    v.field("confidence_power", confidence_power, at_least(0), "weight: 1 = honest, below 1 = overconfident");
  }
  void validate(ConfigReader& reader);
};

struct CheckpointConfig {
  int64_t every = 20;
  int64_t keep = 2;

  using config_struct = void;
  template <class V>
  void fields(V& v) {
    v.field("every", every, at_least(0), "optimiser steps between checkpoints; 0 = only at the end");
    v.field("keep", keep, at_least(1), "checkpoints kept, the newest ones");
  }
};

/// Evaluation during training, before the first step and then every so many; off unless `data` and `every` are set.
struct EvaluationConfig {
  std::vector<std::string> data;
  int64_t every = 0;
  int64_t limit = 0;
  int64_t samples_per_prompt = 1;
  int64_t num_answers = 0;
  SamplingOptions sampling;
  std::string best;

  using config_struct = void;
  template <class V>
  void fields(V& v) {
    v.field("data", data, any_value(), "held-out data, JSON Lines; several files are several sets");
    v.field("every", every, at_least(0), "optimiser steps between evaluations; 0 = never");
    v.field("limit", limit, at_least(0), "use only the first examples; 0 = all");
    v.field("samples_per_prompt", samples_per_prompt, at_least(1), "completions for each held-out prompt");
    v.field("num_answers", num_answers, at_least(0), "K of the evaluation; 0 = the first of num_answers");
    v.field("sampling", sampling, any_value(), "how held-out completions are drawn");
    v.field(
        "best", best, any_value(),
        "keep the model with the best value of this metric in best/, e.g. coverage; of the first set, or SET/coverage");
  }
};

/// samples/*.jsonl: every completion with its answers and rewards.
struct SamplesConfig {
  int64_t every = 1;

  using config_struct = void;
  template <class V>
  void fields(V& v) {
    v.field("every", every, at_least(0), "write the completions of every n-th step; 0 = none");
  }
};

/// Keys that belong to the other task are checked but not used.
struct RunConfig {
  std::string task = "rl";
  std::string model;
  std::string reference;
  std::string output;
  int64_t seed = 1;
  std::string device = "cpu";
  std::string dtype = "bfloat16";
  DataConfig data;
  std::string format = "compact";
  std::vector<int64_t> num_answers = {3};
  PartSpec matcher{"alias", {}};
  int64_t steps = 100;
  int64_t prompts_per_step = 4;
  int64_t samples_per_prompt = 8;
  int64_t passes = 1;
  int64_t max_refills = 0;
  double refill_factor = 1.0;
  CarryOverOptions carry_over;
  CurriculumOptions curriculum;
  ReplayOptions replay;
  int64_t max_batch_tokens = 8192;
  SamplingOptions sampling;
  std::vector<std::string> plugins;
  std::vector<PartSpec> rewards;
  PartSpec advantage{"grpo", {}};
  CriticOptions critic;
  ObjectiveOptions objective;
  OptimizerOptions optimizer;
  SftConfig sft;
  CheckpointConfig checkpoint;
  EvaluationConfig evaluation;
  SamplesConfig samples;

  using config_struct = void;
  template <class V>
  void fields(V& v) {
    v.field("task", task, one_of({"rl", "sft"}), "rl: reinforcement learning; sft: fine-tuning");
    v.field("model", model, required_value(), "Hugging Face folder of the starting model");
    v.field("reference", reference, any_value(), "model of the KL term; empty = the starting model");
    v.field("output", output, required_value(), "run folder");
    v.field("seed", seed, at_least(0), "seed of every random stream of the run");
    v.field("device", device, any_value(), "cpu, cuda or cuda:N");
    v.field("dtype", dtype, one_of({"float32", "bfloat16"}), "numbers of the forward pass; master weights are float32");
    v.field("data", data, any_value(), "training data");
    v.field("format", format, any_value(), "how answers are written in a completion");
    v.field("num_answers", num_answers, at_least(1),
            "K, answers asked for in one completion; of several, one is drawn for each prompt (rl)");
    v.field("matcher", matcher, any_value(), "what makes an answer correct, with its own options");
    v.field("steps", steps, at_least(1), "optimiser steps (rl: steps of passes x optimiser steps)");
    v.field("prompts_per_step", prompts_per_step, at_least(1), "P (rl)");
    v.field("samples_per_prompt", samples_per_prompt, at_least(1), "G, completions for each prompt (rl)");
    v.field("passes", passes, at_least(1), "optimiser steps on each batch of completions (rl)");
    v.field(
        "max_refills", max_refills, at_least(0),
        "rounds of further prompts in a step, in place of those whose rewards are all equal (dynamic sampling) (rl)");
    v.field("refill_factor", refill_factor, at_least(1),
            "prompts that a refill draws for each one it is to replace (rl)");
    v.field("carry_over", carry_over, any_value(), "groups that refills drew too many of, kept for later steps (rl)");
    v.field("curriculum", curriculum, any_value(), "which prompts are drawn (rl)");
    v.field("replay", replay, any_value(), "correct completions trained on again (rl)");
    v.field("max_batch_tokens", max_batch_tokens, at_least(1),
            "packed tokens of one micro-batch; changes memory, never the result");
    v.field("sampling", sampling, any_value(), "how completions are drawn (rl)");
    v.field("plugins", plugins, any_value(), "shared libraries with rewards of your own, loaded at start (rl)");
    v.field("rewards", rewards, any_value(), "rewards, each with name, weight, label and its own options (rl)");
    v.field("advantage", advantage, any_value(), "rewards to advantages, with its own options (rl)");
    v.field("critic", critic, any_value(), "value function of PPO; needs advantage gae (rl)");
    v.field("objective", objective, any_value(), "policy-gradient loss (rl)");
    v.field("optimizer", optimizer, any_value(), "AdamW and its schedule");
    v.field("sft", sft, any_value(), "fine-tuning");
    v.field("checkpoint", checkpoint, any_value(), "checkpoints of the run");
    v.field("evaluation", evaluation, any_value(), "evaluation during training");
    v.field("samples", samples, any_value(), "completions kept on disk");
  }
  /// Rules across fields.
  void validate(ConfigReader& reader);
};

/// A check that the configuration's owner adds, e.g. of names against its registries.
using RunConfigCheck = std::function<void(const RunConfig&, ConfigReader&)>;

/// Reads YAML, applies `--set` overrides in order and validates; all problems go into one InputError.
RunConfig load_run_config(const std::filesystem::path& file, const std::vector<std::string>& overrides = {},
                          const RunConfigCheck& check = {});
/// The same from a tree that is already there (the resolved config.yaml of a run, a test).
RunConfig read_run_config(const ConfigNode& root, const RunConfigCheck& check = {});

/// Every key with its value, as YAML that load_run_config reads back equal.
std::string dump(const RunConfig& config);
/// Every key with type, default, range and meaning.
std::vector<FieldDoc> run_config_docs();

/// Expands a leading "~/" (through HOME) and "${NAME}". `get` returns a variable's value, or nullopt; an
/// unknown variable or an open "${" throws InputError naming it. The library itself reads no environment.
std::string expand_path(std::string_view path, const std::function<std::optional<std::string>(std::string_view)>& get);

}  // namespace plural
