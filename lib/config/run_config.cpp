// SPDX-License-Identifier: Apache-2.0
#include "plural/run_config.h"

#include "lib/core/format.h"
#include "plural/error.h"

namespace plural {
namespace {

bool is_device(std::string_view device) {
  if (device == "cpu" || device == "cuda") return true;
  if (device.substr(0, 5) != "cuda:" || device.size() == 5 || device.size() > 8) return false;
  return device.find_first_not_of("0123456789", 5) == std::string_view::npos;
}

/// The advantage does not look at what rows are paid in total.
bool ignores_total(const PartSpec& advantage) {
  return advantage.name == "gdpo" || advantage.name == "pass_at_k" ||
         (advantage.name == "mode_coverage" && advantage.options.find("reward_weight") == nullptr);
}

/// REINFORCE++ in its baseline form.
bool compares_groups(const PartSpec& advantage) {
  const auto* baseline = advantage.options.find("baseline");
  return baseline != nullptr && baseline->scalar == "group";
}

void validate_rl(const RunConfig& config, ConfigReader& reader) {
  if (config.rewards.empty())
    reader.problem("rewards", "task 'rl' needs at least one reward, e.g. rewards: [{name: coverage}]");
  const bool values = config.advantage.name == "gae";
  const bool alone = values || config.advantage.name == "remax" || config.advantage.name == "reinforce_pp";
  if (config.samples_per_prompt < 2 && !alone)
    reader.problem("samples_per_prompt",
                   fmt::format("advantage '{}' compares completions of one prompt: expected >= 2, got {}",
                               config.advantage.name, config.samples_per_prompt));
  if (config.sampling.temperature <= 0)
    reader.problem("sampling.temperature", "training needs samples that differ: expected > 0, got 0 (greedy)");
  if (config.samples_per_prompt < 2 && config.max_refills > 0)
    reader.problem("max_refills", "a prompt with one sample has no rewards that differ: expected 0, or more samples");
  if (config.refill_factor > 1 && config.max_refills == 0)
    reader.problem("refill_factor", "only refills draw further prompts: set max_refills, or leave this at 1");
  if (config.carry_over.max_groups > 0 && config.refill_factor == 1)
    reader.problem("carry_over.max_groups",
                   "refills that draw no more prompts than they replace leave nothing over: set refill_factor above 1");
  if (config.objective.surrogate == "reinforce" && config.passes > 1)
    reader.problem("passes",
                   fmt::format("surrogate 'reinforce' has no ratio, and from the second pass on the samples are "
                               "off-policy: expected 1, got {}; use ppo_clip",
                               config.passes));
  if (!config.reference.empty() && !config.objective.uses_reference())
    reader.problem("reference",
                   "a reference model is used only by the KL term; set objective.kl_weight > 0 or remove it");
  if (config.objective.kl_in == "reward" && config.objective.uses_reference() && ignores_total(config.advantage))
    reader.problem("objective.kl_in",
                   fmt::format("advantage '{}' does not look at the total reward, which the KL would be taken off: "
                               "expected loss, or an advantage that does (grpo, rloo)",
                               config.advantage.name));
  if (config.objective.kl_in == "reward" && config.objective.uses_reference() &&
      (config.advantage.name == "maxrl" || config.advantage.name == "darling"))
    reader.problem(
        "objective.kl_in",
        fmt::format("advantage '{}' needs rewards of at least 0, and the KL may take them below: expected loss",
                    config.advantage.name));
  const bool beyond_groups = alone && !(config.advantage.name == "reinforce_pp" && compares_groups(config.advantage));
  if (config.max_refills > 0 && beyond_groups)
    reader.problem(
        "max_refills",
        fmt::format("advantage '{}' learns from prompts whose rewards are all equal as well, and refills would "
                    "drop them: expected 0, or an advantage that compares completions of one prompt",
                    config.advantage.name));
  if (config.carry_over.max_groups > 0 && config.objective.surrogate == "reinforce" &&
      config.objective.importance == "none")
    reader.problem("carry_over.max_groups",
                   "surrogate 'reinforce' has no ratio that would put completions of earlier steps right: set "
                   "objective.importance, or use ppo_clip");
  if (values && !config.critic.used())
    reader.problem("critic.trunk",
                   "advantage 'gae' compares rewards with the values of a critic: expected shared or own, got none");
  if (!values && config.critic.used())
    reader.problem("critic.trunk",
                   fmt::format("advantage '{}' has no use for a critic: set advantage: gae, or remove the section",
                               config.advantage.name));
  if (config.critic.optimizer.warmup_steps > config.steps || config.critic.warmup_steps > config.steps)
    reader.problem("critic", fmt::format("longer warm-up than the run, which has {} steps", config.steps));
  if (config.sampling.top_p == 0) reader.problem("sampling.top_p", "expected > 0; 1 = off");
}

}  // namespace

void SftConfig::validate(ConfigReader& reader) {
  if (num_answers.empty()) reader.problem("num_answers", "expected at least one number");
  if (confidences.empty()) reader.problem("confidences", "expected at least one number");
}

void CriticOptions::validate(ConfigReader& reader) {
  // A resolved config.yaml holds every key, so that what differs from the default counts, not what is written.
  if (!used() && dump_yaml(*this) != dump_yaml(CriticOptions()))
    reader.problem("trunk", "settings of a critic, but none is asked for: expected shared or own, or no other keys");
  if (!model.empty() && trunk == "shared")
    reader.problem("model", "a shared trunk is the policy's: expected trunk: own, or no model");
  if (optimizer.beta1 >= 1) reader.problem("optimizer.beta1", "expected < 1");
  if (optimizer.beta2 >= 1) reader.problem("optimizer.beta2", "expected < 1");
}

void RunConfig::validate(ConfigReader& reader) {
  if (!is_device(device)) reader.problem("device", fmt::format("expected cpu, cuda or cuda:N, got '{}'", device));
  if (num_answers.empty()) reader.problem("num_answers", "expected at least one number");  // evaluations ask too
  if (task == "rl") validate_rl(*this, reader);
  if (optimizer.beta1 >= 1) reader.problem("optimizer.beta1", "expected < 1");
  if (optimizer.beta2 >= 1) reader.problem("optimizer.beta2", "expected < 1");
  if (optimizer.warmup_steps > steps)
    reader.problem("optimizer.warmup_steps",
                   fmt::format("{} steps of warm-up, but the run has {}", optimizer.warmup_steps, steps));
  if (evaluation.every > 0 && evaluation.data.empty())
    reader.problem("evaluation.every", "evaluation needs data: set evaluation.data, or every: 0");
  if (!evaluation.best.empty() && evaluation.every == 0)
    reader.problem("evaluation.best", "the best model is found by evaluations: set evaluation.every, or remove it");
}

RunConfig read_run_config(const ConfigNode& root, const RunConfigCheck& check) {
  RunConfig config;
  ConfigReader reader(root);
  config.fields(reader);
  config.validate(reader);
  if (check) check(config, reader);
  reader.finish();
  return config;
}

RunConfig load_run_config(const std::filesystem::path& file, const std::vector<std::string>& overrides,
                          const RunConfigCheck& check) {
  std::vector<DuplicateKey> duplicates;
  ConfigNode root = read_yaml(file, &duplicates);
  for (const std::string& assignment : overrides) apply_override(root, assignment);
  return read_run_config(root, [&](const RunConfig& config, ConfigReader& reader) {
    for (const DuplicateKey& duplicate : duplicates) reader.problem_at(duplicate.mark, duplicate.message);
    if (check) check(config, reader);
  });
}

std::string dump(const RunConfig& config) { return dump_yaml(config); }

std::vector<FieldDoc> run_config_docs() { return describe_options<RunConfig>(); }

std::string expand_path(std::string_view path, const std::function<std::optional<std::string>(std::string_view)>& get) {
  const auto value = [&](std::string_view name) {
    std::optional<std::string> found = get(name);
    if (!found)
      throw InputError(
          fmt::format("path '{}': the environment variable {} is not set; set it, or write the path out", path, name));
    return *found;
  };
  std::string out;
  std::string_view rest = path;
  if (rest == "~" || rest.substr(0, 2) == "~/") {
    out = value("HOME");
    rest.remove_prefix(1);
  }
  for (;;) {
    const size_t open = rest.find("${");
    out += rest.substr(0, open);
    if (open == std::string_view::npos) return out;
    const size_t close = rest.find('}', open);
    if (close == std::string_view::npos)
      throw InputError(fmt::format("path '{}': '${{' without its closing brace", path));
    out += value(rest.substr(open + 2, close - open - 2));
    rest.remove_prefix(close + 1);
  }
}

}  // namespace plural
