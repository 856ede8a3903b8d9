// SPDX-License-Identifier: Apache-2.0
// Options that several commands have, declared once: the same name, check and help everywhere.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "plural/rollout.h"

namespace plural::app {

/// How completions are drawn; what the user did not give stays as it is.
struct SamplingArgs {
  std::optional<int64_t> max_new_tokens, top_k;
  std::optional<double> temperature, top_p, min_p;

  void apply(SamplingOptions& options) const;
};
/// --temperature, --top-k, --top-p, --min-p and --max-new-tokens.
void add_sampling_options(CLI::App& command, SamplingArgs* args);

/// A training configuration and changes to it.
struct ConfigFileArgs {
  std::string file;
  std::vector<std::string> overrides;
};
/// --config and --set; `use` says what the command takes from the file.
void add_config_options(CLI::App& command, ConfigFileArgs* args, const std::string& use);
/// --set alone.
CLI::Option* add_override_option(CLI::App& command, std::vector<std::string>* overrides);

CLI::Option* add_format_option(CLI::App& command, std::string* format);
void add_matcher_option(CLI::App& command, std::string* matcher);
void add_seed_option(CLI::App& command, uint64_t* seed);
/// -n, --samples.
void add_samples_option(CLI::App& command, int64_t* samples, const std::string& help);
/// The largest K on a command line and in stored completions: rewards and measures compare all answers of a set.
inline constexpr int64_t kMostAnswers = 1000;
/// What K may be on a command line.
CLI::Range num_answers_range();

}  // namespace plural::app
