// SPDX-License-Identifier: Apache-2.0
// A training run in a folder: builds the parts that a configuration names, trains, and keeps
// everything on disk such that a killed run goes on bit for bit. This is `plural train` as a
// function.
#pragma once

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "plural/metrics.h"
#include "plural/policy.h"
#include "plural/registry.h"
#include "plural/reward.h"
#include "plural/run_config.h"
#include "plural/tokenizer.h"
#include "plural/transformer.h"

namespace plural {

/// Asks a run to stop. A view of somebody's flag; the default one never stops.
class StopToken {
 public:
  StopToken() = default;
  /// `flag` must outlive the token; it may be set from a signal handler.
  explicit StopToken(const std::atomic<bool>* flag) : flag_(flag) {}
  bool stop_possible() const { return flag_ != nullptr; }
  bool stop_requested() const { return flag_ && flag_->load(std::memory_order_relaxed); }

 private:
  const std::atomic<bool>* flag_ = nullptr;
};

/// Where a run is, for a progress line.
struct RunProgress {
  int64_t step = 0;                    ///< steps done
  int64_t steps = 0;                   ///< steps in all
  double seconds_left = 0;             ///< estimate from the steps of this session
  const MetricMap* metrics = nullptr;  ///< of the step just done
};

struct RunOptions {
  bool resume = false;       ///< go on from the newest good checkpoint of the output folder
  StopToken stop;            ///< asked between steps: then a checkpoint is written and the run ends
  VariableLookup variables;  ///< asked for the secrets that the matcher's options name (`api_key_env`); may be empty
  /// Text for people: the table of what a step holds, the reward formula, notes. May be empty.
  std::function<void(const std::string&)> message;
  /// After every step. May be empty.
  std::function<void(const RunProgress&)> progress;
};

struct RunResult {
  int64_t step = 0;             ///< steps done
  bool finished = false;        ///< false: stopped early; --resume goes on
  std::filesystem::path model;  ///< the trained model's folder, when finished
};

/// Trains as `config` says, in the folder config.output. `rewards` holds the names that `rewards:`
/// may use: builtin_rewards() and whatever the caller added. Throws InputError for unusable
/// settings, data or models and for a folder that cannot be started or resumed in, SystemError when
/// writing fails; what was finished before (metrics, samples, checkpoints) stays.
RunResult run_training(const RunConfig& config, const RunOptions& options,
                       const Registry<Reward>& rewards = builtin_rewards());

/// Throws InputError when `tokenizer` has ids that the model has no embedding for.
void check_tokenizer_fits(const Tokenizer& tokenizer, const Policy& policy, const std::string& model_dir);

/// What is odd about a tokenizer whose end token is none of the ids that end a text for the model: perhaps it is that
/// of another model. "" when they agree, or when one of the two names none.
std::string end_token_warning(const Tokenizer& tokenizer, const TransformerPolicy& policy,
                              const std::string& model_dir);

}  // namespace plural
