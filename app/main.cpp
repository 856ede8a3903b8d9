// SPDX-License-Identifier: Apache-2.0
// The `plural` command. Exit codes: 0 success, 2 bad usage or bad input, 130 stopped by Ctrl-C, 1 anything else.
#include <c10/util/Exception.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <iostream>
#include <string>

#include "app/commands.h"
#include "app/stop_signal.h"
#include "lib/core/format.h"
#include "plural/device.h"
#include "plural/error.h"
#include "plural/version.h"

namespace plural::app {
namespace {

constexpr const char* kWhenOutOfMemory =
    "use smaller batches (train: --set max_batch_tokens=N, --set sampling.max_rows=N, which a run may change with "
    "--resume; generate: --batch) or a smaller model";

void complain(const std::string& message) { fmt::print(stderr, "plural: {}\n", message); }

int run(int argc, char** argv) {
  CLI::App app{"plural " PLURAL_VERSION ": post-training of language models that answer with sets", "plural"};
  app.set_version_flag("--version", "plural " PLURAL_VERSION);
  app.require_subcommand(1);
  app.set_help_all_flag("--help-all", "Print the help of every command");
  app.footer(
      "Exit codes: 0 success, 2 bad usage or bad input, 130 stopped by Ctrl-C, 1 any other "
      "failure.\n"
      "`plural COMMAND --help` tells more; docs/guides/commands.md has examples.");
  int exit_code = 0;
  add_train(app, &exit_code);
  add_eval(app, &exit_code);
  add_generate(app, &exit_code);
  add_score(app, &exit_code);
  add_logprobs(app, &exit_code);
  add_tokenize(app, &exit_code);
  add_detokenize(app, &exit_code);
  add_metrics(app, &exit_code);
  add_init(app, &exit_code);
  add_report(app, &exit_code);
  add_config(app, &exit_code);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {  // a request for help is one too
    exit_code = app.exit(error) == 0 ? 0 : 2;
  }
  // Help (by std::cout), tables and reports (by printf) go to standard output: a full disk shows only here.
  if (!std::cout.flush() || std::fflush(stdout) != 0)
    throw WriteError("standard output: cannot write (is the disk full?)");
  return exit_code;
}

}  // namespace
}  // namespace plural::app

int main(int argc, char** argv) {
  using namespace plural::app;
  plural::keep_freed_memory();
  install_stop_signals();
  try {
    return run(argc, argv);
  } catch (const plural::Error& error) {
    complain(error.what());
    return error.exit_code();
  } catch (const c10::OutOfMemoryError& error) {
    complain(fmt::format("out of memory: {}; {}", error.what_without_backtrace(), kWhenOutOfMemory));
  } catch (const c10::Error& error) {
    complain(fmt::format("LibTorch: {}", error.what_without_backtrace()));
  } catch (const std::filesystem::filesystem_error& error) {  // a folder that may not be read, mostly
    complain(error.what());
  } catch (const std::bad_alloc&) {
    complain(fmt::format("out of memory; {}", kWhenOutOfMemory));
  } catch (const std::exception& error) {
    complain(fmt::format("internal error: {}", error.what()));
  }
  return 1;
}
