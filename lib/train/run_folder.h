// SPDX-License-Identifier: Apache-2.0
// The files of a run folder other than checkpoints and metrics: config.yaml, manifest.json,
// samples/, model/, best/. Invariant: config.yaml is written last when a run starts, so a folder that has
// one can be resumed.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "lib/core/file_lock.h"
#include "plural/critic.h"
#include "plural/policy.h"
#include "plural/run_config.h"

namespace plural {

/// SHA-256 of the files that decide a run's results, by their role ("data.train",
/// "model/config.json", ...; "reference/weights" when there is a KL term, "critic/weights"
/// when the critic has a trunk of its own).
using FileHashes = std::map<std::string, std::string>;
FileHashes hash_inputs(const RunConfig& config);

/// What best.json says of the model in best/.
struct BestModel {
  int64_t step = 0;    ///< steps done when it was evaluated
  std::string metric;  ///< as in evaluation.best
  double value = 0;
};

class RunFolder {
 public:
  /// Looks before anything is loaded. A fresh start needs an absent or empty folder; `resume` needs
  /// a folder of the same configuration, or none yet. Otherwise throws InputError that says what
  /// differs and what to do. From here (resuming) or from create() on, the folder is locked: a second
  /// process in it gets an InputError that names the first.
  RunFolder(const RunConfig& config, bool resume);

  /// True when the folder belongs to a run that was started before.
  bool resuming() const { return resuming_; }
  const std::filesystem::path& path() const { return path_; }

  /// Throws InputError when an input file is not the one that the run was started with.
  void check_inputs(const FileHashes& hashes) const;
  /// Creates the folder with manifest.json and config.yaml.
  void create(const RunConfig& config, const FileHashes& hashes);

  /// Writes samples/step_N.jsonl.
  void write_samples(int64_t step, const std::string& lines) const;
  /// Removes samples of steps after `step` (they will come again) and what a killed process left
  /// half-written.
  void drop_after(int64_t step) const;
  /// Writes model/, complete or absent.
  void save_model(const Policy& policy) const;
  std::filesystem::path model() const { return path_ / "model"; }
  /// Writes critic/ next to it, complete or absent.
  void save_critic(const Critic& critic) const;
  /// Writes best/, a model folder with best.json, in place of an older one.
  void save_best(const Policy& policy, const BestModel& about) const;
  /// nullopt when there is none yet.
  std::optional<BestModel> load_best() const;
  std::filesystem::path best() const { return path_ / "best"; }

 private:
  void lock();

  std::filesystem::path path_;
  bool resuming_ = false;
  std::unique_ptr<detail::FileLock> lock_;
};

}  // namespace plural
