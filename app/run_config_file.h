// SPDX-License-Identifier: Apache-2.0
// Reading the YAML of a run as the command does: names are checked against what this program can
// build, and paths may start with ~ or hold ${NAME}.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "plural/registry.h"
#include "plural/reward.h"
#include "plural/run_config.h"

namespace plural::app {

/// What options that name variables get: this process's environment.
std::optional<std::string> environment(std::string_view name);

RunConfig load_checked_config(const std::filesystem::path& file, const std::vector<std::string>& overrides);

/// What may be meant but is probably not, as sentences: rewards that pay for what nobody wants.
std::vector<std::string> config_warnings(const RunConfig& config);

/// The bundled rewards, with this process's environment for their secrets, and those of the configuration's plugins.
Registry<Reward> rewards_of(const RunConfig& config);

}  // namespace plural::app
