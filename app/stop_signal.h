// SPDX-License-Identifier: Apache-2.0
// Ctrl-C: the first SIGINT or SIGTERM asks the command to stop, the second one ends the process.
#pragma once

#include <stop_token>

#include "plural/run.h"

namespace plural::app {

/// Installs the handlers; call once, at start.
void install_stop_signals();
/// True after the first signal.
StopToken stop_token();

/// The same for what takes a std::stop_token.
std::stop_token stop_request();

/// Throws plural::Interrupted after the first signal: for line-by-line commands, between two lines.
void throw_if_stopped();

}  // namespace plural::app
