// SPDX-License-Identifier: Apache-2.0
#include "app/shared_options.h"

#include "lib/core/format.h"
#include "plural/answers.h"

namespace plural::app {

void SamplingArgs::apply(SamplingOptions& options) const {
  if (max_new_tokens) options.max_new_tokens = *max_new_tokens;
  if (temperature) options.temperature = *temperature;
  if (top_k) options.top_k = *top_k;
  if (top_p) options.top_p = *top_p;
  if (min_p) options.min_p = *min_p;
}

void add_sampling_options(CLI::App& command, SamplingArgs* args) {
  const SamplingOptions defaults;
  command
      .add_option("--max-new-tokens", args->max_new_tokens,
                  fmt::format("longest completion, in tokens (default {})", defaults.max_new_tokens))
      ->check(CLI::Range(1, 1 << 24));
  command
      .add_option("--temperature", args->temperature,
                  fmt::format("sampling temperature; 0 = greedy (default {})", defaults.temperature))
      ->check(CLI::Range(0.0, 100.0));
  command.add_option("--top-k", args->top_k, "keep the k most likely tokens; 0 = off")->check(CLI::NonNegativeNumber);
  command.add_option("--top-p", args->top_p, "keep the smallest set of tokens with this mass; 1 = off")
      ->check(CLI::Range(0.0, 1.0));
  command.add_option("--min-p", args->min_p, "drop tokens below this share of the likeliest one; 0 = off")
      ->check(CLI::Range(0.0, 1.0));
}

CLI::Option* add_override_option(CLI::App& command, std::vector<std::string>* overrides) {
  return command.add_option("--set", *overrides, "override a key of the configuration: a.b=value; may be repeated")
      ->take_all()
      ->allow_extra_args(false);
}

void add_config_options(CLI::App& command, ConfigFileArgs* args, const std::string& use) {
  auto* file = command.add_option("--config", args->file, fmt::format("training configuration: take {} from it", use));
  add_override_option(command, &args->overrides)->needs(file);
}

CLI::Option* add_format_option(CLI::App& command, std::string* format) {
  return command.add_option("--format", *format, "answer format (default compact)")
      ->check(CLI::IsMember(answer_format_names()));
}

void add_matcher_option(CLI::App& command, std::string* matcher) {
  command.add_option("--matcher", *matcher, "what makes an answer correct (default alias)");
}

void add_seed_option(CLI::App& command, uint64_t* seed) {
  command.add_option("--seed", *seed, "seed of the random streams")->capture_default_str();
}

void add_samples_option(CLI::App& command, int64_t* samples, const std::string& help) {
  command.add_option("-n,--samples", *samples, help)->check(CLI::Range(1, 100000))->capture_default_str();
}

CLI::Range num_answers_range() { return CLI::Range(int64_t{1}, kMostAnswers); }

}  // namespace plural::app
