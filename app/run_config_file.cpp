// SPDX-License-Identifier: Apache-2.0
#include "app/run_config_file.h"

#include <cstdlib>
#include <optional>

#include "plural/advantage.h"
#include "plural/answers.h"
#include "plural/error.h"
#include "plural/objective.h"
#include "plural/reward.h"
#include "plural/trainer.h"

namespace plural::app {
namespace {

/// Runs `build`; its InputError becomes a problem of `key`, next to the others.
template <class Build>
void try_build(ConfigReader& reader, const std::string& key, const Build& build) {
  try {
    build();
  } catch (const InputError& error) {
    reader.problem(key, error.what());
  }
}

void check_names(const RunConfig& config, ConfigReader& reader) {
  try_build(reader, "format", [&] { make_answer_format(config.format); });
  try_build(reader, "matcher", [&] { make_matcher(config.matcher); });
  if (config.task != "rl") return;
  try_build(reader, "rewards", [&] { build_reward_stack(config.rewards, builtin_rewards()); });
  try_build(reader, "advantage", [&] {
    const auto advantage = builtin_advantages().make(config.advantage.name, config.advantage.options);
    advantage->check_sizes(config.samples_per_prompt, config.num_answers);
    // What is wrong with the objective by itself has been said already.
    if (config.objective.problems().empty()) check_advantage_fits(*make_policy_gradient(config.objective), *advantage);
  });
}

std::optional<std::string> environment(std::string_view name) {
  const char* value = std::getenv(std::string(name).c_str());
  return value ? std::optional<std::string>(value) : std::nullopt;
}

}  // namespace

RunConfig load_checked_config(const std::filesystem::path& file, const std::vector<std::string>& overrides) {
  RunConfig config = load_run_config(file, overrides, check_names);
  std::vector<std::string*> paths = {&config.model, &config.reference, &config.output, &config.data.train};
  for (std::string& file : config.evaluation.data) paths.push_back(&file);
  for (std::string* path : paths) *path = expand_path(*path, environment);
  return config;
}

std::vector<std::string> config_warnings(const RunConfig& config) {
  if (config.task != "rl") return {};
  const int64_t k = make_answer_format(config.format)->single() ? 1 : config.num_answers;
  return build_reward_stack(config.rewards, builtin_rewards()).warnings(k);
}

}  // namespace plural::app
