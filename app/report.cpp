// SPDX-License-Identifier: Apache-2.0
// plural report: one HTML page about a run or an evaluation.
#include <memory>
#include <string>

#include "app/commands.h"
#include "lib/core/format.h"
#include "lib/eval/report.h"

namespace plural::app {
namespace {

struct ReportArgs {
  std::string dir, out;
};

int report(const ReportArgs& args) {
  const eval::Report report = eval::write_report(args.dir, args.out);
  if (!report.table.empty()) fmt::print("{}\n", report.table);
  fmt::print("{}\n", std::filesystem::absolute(report.page).lexically_normal().string());
  return 0;
}

}  // namespace

void add_report(CLI::App& app, int* exit_code) {
  auto args = std::make_shared<ReportArgs>();
  CLI::App* command = app.add_subcommand("report",
                                         "Writes one self-contained HTML page about a run folder "
                                         "(or an evaluation) and prints its table");
  command->add_option("RUN_DIR", args->dir, "folder of `plural train` (with evals/*/) or of `plural eval`")->required();
  command->add_option("--out", args->out, "the page; default RUN_DIR/report.html");
  command->callback([=] { *exit_code = report(*args); });
}

}  // namespace plural::app
