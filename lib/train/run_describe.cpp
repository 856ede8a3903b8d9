// SPDX-License-Identifier: Apache-2.0
// The table that a run prints at start: what one step holds, and about how much memory that takes.
#include <algorithm>

#include "lib/core/format.h"
#include "lib/train/run_parts.h"

namespace plural {
namespace {

/// Bytes by use. Estimates from shapes; allocator overhead and the code itself are not in it.
struct MemoryEstimate {
  double weights = 0, gradients = 0, optimizer = 0, kv_cache = 0, activations = 0;
  double total() const { return weights + gradients + optimizer + kv_cache + activations; }
};

MemoryEstimate estimate_memory(const RunConfig& config, const RunParts& parts, double parameters,
                               int64_t longest_prompt) {
  const bool second_trunk = parts.critic && config.critic.trunk == "own";
  const double trained = parameters * (second_trunk && !config.critic.stop_gradient ? 2 : 1);
  const TransformerConfig& model = parts.policy->config();
  const double item = config.dtype == "bfloat16" ? 2 : 4;
  const auto layers = static_cast<double>(model.layers);
  MemoryEstimate memory;
  memory.weights = parameters * item * ((parts.reference ? 2 : 1) + (second_trunk ? 1 : 0));
  memory.gradients = trained * item;
  memory.optimizer = trained * (item < 4 ? 12 : 8);  // two float32 moments, and a float32 master
                                                     // under bfloat16
  if (config.task == "rl") {
    const auto rows = static_cast<double>(
        std::min(config.prompts_per_step * config.samples_per_prompt, config.sampling.max_rows));
    const double tokens = rows * static_cast<double>(config.sampling.max_new_tokens) +
                          static_cast<double>(config.prompts_per_step * longest_prompt);
    memory.kv_cache = 2 * tokens * layers * static_cast<double>(model.kv_heads * model.head_size) * item;
  }
  // Kept for the backward pass of one layer: about ten vectors of the model's width (norms,
  // residuals, attention) and three of the feed-forward's a token.
  const double per_token = layers * (10 * static_cast<double>(model.width) + 3 * static_cast<double>(model.mlp_width)) *
                           item;
  memory.activations = static_cast<double>(config.max_batch_tokens) * per_token;
  return memory;
}

std::string gigabytes(double bytes) {
  return bytes < 1e8 ? fmt::format("{:.1f} MB", bytes / 1e6) : fmt::format("{:.2f} GB", bytes / 1e9);
}

std::string describe_critic(const RunConfig& config, const Critic& critic) {
  double parameters = 0;
  for (const auto& [name, tensor] : critic.named_parameters()) parameters += static_cast<double>(tensor.numel());
  const std::string trunk = config.critic.trunk == "shared" ? "the policy's trunk"
                            : config.critic.model.empty()   ? "a second copy of the model"
                                                            : config.critic.model;
  return fmt::format("value head on {}, {:.2f} M parameters of its own", trunk, parameters / 1e6);
}

}  // namespace

std::string describe_run(const RunConfig& config, const RunParts& parts, int64_t longest_prompt) {
  double parameters = 0;
  for (const auto& [name, tensor] : parts.policy->named_parameters()) parameters += static_cast<double>(tensor.numel());
  const MemoryEstimate memory = estimate_memory(config, parts, parameters, longest_prompt);

  std::string out;
  const auto row = [&](const std::string& name, const std::string& value) {
    out += fmt::format("  {:<28} {}\n", name, value);
  };
  if (config.task == "rl") {
    out += "one step of reinforcement learning\n";
    row("prompts (P)", fmt::format("{}", config.prompts_per_step));
    row("samples of each (G)", fmt::format("{}", config.samples_per_prompt));
    row("rows (P x G)", fmt::format("{}", config.prompts_per_step * config.samples_per_prompt));
    row("answers in each row (K)", fmt::format("{}, format {}, matcher {}", fmt::join(config.num_answers, " "),
                                               config.format, config.matcher.name));
    row("new tokens of a row", fmt::format("at most {}", config.sampling.max_new_tokens));
    row("optimiser steps (passes)", fmt::format("{}", config.passes));
    if (config.max_refills > 0)
      row("refills", fmt::format("at most {}, {:g} prompts for one, {} groups carried over", config.max_refills,
                                 config.refill_factor, config.carry_over.max_groups));
    if (config.curriculum.on())
      row("prompts by pass rate", fmt::format("{}, target {:g}, width {:g}", config.curriculum.measure,
                                              config.curriculum.target, config.curriculum.width));
    if (config.replay.on())
      row("replay", fmt::format("{:g} x -ln p a token, up to {} correct completions of a prompt", config.replay.weight,
                                config.replay.max_modes));
  } else {
    out += "one step of fine-tuning\n";
    row("rows", fmt::format("{}", config.sft.rows_per_step));
    row("targets", config.sft.target == "gold" ? fmt::format("sets drawn from the gold answers, K from {}, format {}",
                                                             fmt::join(config.sft.num_answers, " "), config.format)
                                               : "the data's responses");
  }
  row("micro-batch", fmt::format("at most {} tokens", config.max_batch_tokens));
  row("longest prompt", fmt::format("{} of {} tokens", longest_prompt, parts.policy->context_length()));
  out += "the run\n";
  row("steps", fmt::format("{}", config.steps));
  const auto without_gold = std::ranges::count_if(parts.examples, [](const Example& e) { return e.gold.empty(); });
  row("data", fmt::format("{} examples of {}{}", parts.examples.size(), config.data.train,
                          without_gold > 0 ? fmt::format(", {} of them without gold answers", without_gold) : ""));
  row("model",
      fmt::format("{}, {:.2f} M parameters, {} on {}", config.model, parameters / 1e6, config.dtype, config.device));
  if (parts.critic) row("critic", describe_critic(config, *parts.critic));
  row("memory, about",
      fmt::format("{} (weights {}, gradients {}, optimiser {}, KV cache {}, activations {})", gigabytes(memory.total()),
                  gigabytes(memory.weights), gigabytes(memory.gradients), gigabytes(memory.optimizer),
                  gigabytes(memory.kv_cache), gigabytes(memory.activations)));
  row("folder", config.output);
  if (config.task == "rl") out += fmt::format("reward\n  {}\n", parts.rewards.formula());
  return out;
}

}  // namespace plural
