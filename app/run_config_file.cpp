// SPDX-License-Identifier: Apache-2.0
#include "app/run_config_file.h"

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <optional>

#include "lib/core/format.h"
#include "plural/advantage.h"
#include "plural/answers.h"
#include "plural/error.h"
#include "plural/objective.h"
#include "plural/plugin.h"
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
  std::unique_ptr<AnswerFormat> format;
  try_build(reader, "format", [&] { format = make_answer_format(config.format); });
  try_build(reader, "matcher", [&] { make_matcher(config.matcher.name, config.matcher.options, environment); });
  if (config.task != "rl") return;
  std::optional<Registry<Reward>> rewards;
  try_build(reader, "plugins", [&] { rewards = rewards_of(config); });
  if (rewards) try_build(reader, "rewards", [&] { build_reward_stack(config.rewards, *rewards); });
  // That there is no number has been said already.
  const int64_t most = config.num_answers.empty() ? 1 : std::ranges::max(config.num_answers);
  if (most > kMaxAnswers) reader.problem("num_answers", fmt::format("expected at most {}, got {}", kMaxAnswers, most));
  if (format && format->single() && most > 1)
    reader.problem("num_answers", fmt::format("format '{}' holds one answer: expected 1, got {}", config.format, most));
  try_build(reader, "advantage", [&] {
    const auto advantage = builtin_advantages().make(config.advantage.name, config.advantage.options);
    advantage->check_sizes(config.samples_per_prompt, most);
    // What is wrong with the objective by itself has been said already.
    if (config.objective.problems().empty()) check_advantage_fits(*make_policy_gradient(config.objective), *advantage);
  });
}

}  // namespace

std::optional<std::string> environment(std::string_view name) {
  const char* value = std::getenv(std::string(name).c_str());
  return value ? std::optional<std::string>(value) : std::nullopt;
}

Registry<Reward> rewards_of(const RunConfig& config) {
  Registry<Reward> registry = builtin_rewards({.variables = environment});
  for (const std::string& plugin : config.plugins) load_plugin(expand_path(plugin, environment), registry);
  return registry;
}

RunConfig load_checked_config(const std::filesystem::path& file, const std::vector<std::string>& overrides) {
  RunConfig config = load_run_config(file, overrides, check_names);
  std::vector<std::string*> paths = {&config.model, &config.reference, &config.critic.model, &config.output,
                                     &config.data.train};
  for (std::string& file : config.evaluation.data) paths.push_back(&file);
  for (std::string& plugin : config.plugins) paths.push_back(&plugin);
  for (std::string* path : paths) *path = expand_path(*path, environment);
  return config;
}

std::vector<std::string> config_warnings(const RunConfig& config) {
  if (config.task != "rl") return {};
  const int64_t k = make_answer_format(config.format)->single() ? 1 : std::ranges::max(config.num_answers);
  return build_reward_stack(config.rewards, rewards_of(config)).warnings(k);
}

}  // namespace plural::app
