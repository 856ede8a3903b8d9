// SPDX-License-Identifier: Apache-2.0
// Builds what a configuration names. Members stand in the order in which they depend on each other.
#pragma once

#include <memory>
#include <stop_token>
#include <string>
#include <vector>

#include "plural/advantage.h"
#include "plural/answers.h"
#include "plural/critic.h"
#include "plural/dataset.h"
#include "plural/objective.h"
#include "plural/optimizer.h"
#include "plural/reward.h"
#include "plural/rollout.h"
#include "plural/run_config.h"
#include "plural/tokenizer.h"
#include "plural/trainer.h"
#include "plural/transformer.h"

namespace plural {

/// A data set of evaluation during training.
struct HeldOut {
  std::string name;  ///< in the names of its metrics; "" when it is the only one
  std::string file;
  std::vector<Example> examples;
};

struct RunParts {
  Tokenizer tokenizer;
  std::vector<Example> examples;
  std::vector<HeldOut> held_out;  ///< of evaluation during training; may be empty
  std::unique_ptr<AnswerFormat> format;
  std::unique_ptr<Matcher> matcher;
  std::unique_ptr<TransformerPolicy> policy;
  std::unique_ptr<Policy> reference;  ///< null without a KL term
  std::unique_ptr<RolloutEngine> engine;
  RewardStack rewards;
  std::unique_ptr<AdvantageEstimator> advantage;
  std::unique_ptr<Objective> objective;
  std::unique_ptr<AdamW> optimizer;
  std::unique_ptr<Critic> critic;  ///< null without an advantage that needs values
};

/// Loads data, tokenizer and model and builds the rest; cheap checks come before expensive loading.
/// Everything that the user got wrong throws InputError. `variables`: RunOptions::variables.
std::unique_ptr<RunParts> build_run_parts(const RunConfig& config, const Registry<Reward>& rewards,
                                          const VariableLookup& variables);

/// Throws InputError listing the examples whose prompts, in fine-tuning with the longest target that may be drawn, do
/// not fit in the context (id, tokens, limit). Returns the longest prompt in tokens.
int64_t check_prompt_lengths(const RunConfig& config, const RunParts& parts);

/// The table of what one step holds, and the reward formula.
std::string describe_run(const RunConfig& config, const RunParts& parts, int64_t longest_prompt);

/// RL and fine-tuning behind one face, for the loop of run.cpp.
class RunTrainer {
 public:
  virtual ~RunTrainer() = default;
  virtual StepReport step() = 0;
  virtual bool done() const = 0;
  virtual TrainState state() const = 0;
  virtual void restore(const TrainState& state) = 0;
  /// Lines of samples/step_N.jsonl for the last step; "" when the task has none.
  virtual std::string sample_lines(int64_t step) const = 0;
};
/// `stop` ends what a step waits for outside of this process.
std::unique_ptr<RunTrainer> make_run_trainer(const RunConfig& config, RunParts& parts, std::stop_token stop);

}  // namespace plural
