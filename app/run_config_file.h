// SPDX-License-Identifier: Apache-2.0
// Reading the YAML of a run as the command does: names are checked against what this program can
// build, and paths may start with ~ or hold ${NAME}.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "plural/run_config.h"

namespace plural::app {

RunConfig load_checked_config(const std::filesystem::path& file, const std::vector<std::string>& overrides);

}  // namespace plural::app
