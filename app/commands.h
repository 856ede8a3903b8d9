// SPDX-License-Identifier: Apache-2.0
// The sub-commands of `plural`, one file each. Each function adds its command to `app`; when the
// user picks it, its callback runs and stores the exit code in `*exit_code`. Failures are
// exceptions; main maps them.
#pragma once

#include <CLI/CLI.hpp>

namespace plural::app {

void add_train(CLI::App& app, int* exit_code);
void add_eval(CLI::App& app, int* exit_code);
void add_generate(CLI::App& app, int* exit_code);
void add_score(CLI::App& app, int* exit_code);
void add_logprobs(CLI::App& app, int* exit_code);
void add_tokenize(CLI::App& app, int* exit_code);
void add_detokenize(CLI::App& app, int* exit_code);
void add_metrics(CLI::App& app, int* exit_code);
void add_init(CLI::App& app, int* exit_code);
void add_report(CLI::App& app, int* exit_code);
void add_config(CLI::App& app, int* exit_code);

}  // namespace plural::app
