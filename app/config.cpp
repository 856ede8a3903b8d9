// SPDX-License-Identifier: Apache-2.0
// plural config: every key of a training configuration, or a check of a file.
#include <cstdio>
#include <memory>
#include <string>

#include "app/commands.h"
#include "app/line_io.h"
#include "app/run_config_file.h"
#include "lib/core/format.h"
#include "plural/run_config.h"

namespace plural::app {
namespace {

struct ConfigArgs {
  bool defaults = false;
  std::string check, out = "-";
  std::vector<std::string> overrides;
};

/// One block a key: name, type, default, range, meaning.
std::string key_list() {
  std::string out;
  for (const FieldDoc& doc : run_config_docs()) {
    if (doc.type == "section") {
      out += fmt::format("\n{}  --  {}\n", doc.path, doc.help);
      continue;
    }
    out += fmt::format("{:<34} {:<16} default {}{}\n{:<34} {}\n", doc.path, doc.type,
                       doc.default_value.empty() ? "(none)" : doc.default_value, doc.range.empty() ? "" : "; " + doc.range, "", doc.help);
  }
  return out;
}

int config(const ConfigArgs& args) {
  LineWriter out(args.out);
  if (!args.check.empty()) {
    const RunConfig config = load_checked_config(args.check, args.overrides);
    out.write(fmt::format("{}: good (task {}, {} steps)", args.check, config.task, config.steps));
  } else {
    std::string text = args.defaults ? dump(RunConfig{}) : key_list();
    while (!text.empty() && text.back() == '\n') text.pop_back();
    out.write(text);
  }
  out.close();
  return 0;
}

}  // namespace

void add_config(CLI::App& app, int* exit_code) {
  auto args = std::make_shared<ConfigArgs>();
  CLI::App* command = app.add_subcommand(
      "config", "Lists every key of a training configuration with type, default, range and meaning, or checks a file");
  auto* defaults = command->add_flag("--defaults", args->defaults, "print the defaults as YAML");
  auto* check = command->add_option("--check", args->check, "check this YAML file; every problem is listed with its place");
  defaults->excludes(check);
  command->add_option("--set", args->overrides, "with --check: override a key, a.b=value; may be repeated")->needs(check)->take_all();
  command->add_option("--out", args->out, "write this file; - = standard output")->capture_default_str();
  command->callback([=] { *exit_code = config(*args); });
}

}  // namespace plural::app
