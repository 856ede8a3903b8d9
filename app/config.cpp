// SPDX-License-Identifier: Apache-2.0
// plural config: every key of a training configuration, or a check of a file.
#include <algorithm>
#include <filesystem>
#include <memory>
#include <string>

#include "app/commands.h"
#include "app/line_io.h"
#include "app/run_config_file.h"
#include "app/shared_options.h"
#include "lib/core/format.h"
#include "plural/advantage.h"
#include "plural/embedder.h"
#include "plural/error.h"
#include "plural/reward.h"
#include "plural/run_config.h"

namespace plural::app {
namespace {

struct ConfigArgs {
  bool defaults = false;
  std::string check, out = "-";
  std::vector<std::string> overrides;
};

std::string key_block(const FieldDoc& doc) {
  return fmt::format("{:<34} {:<22} default {}{}\n{:<34} {}\n", doc.path, doc.type,
                     doc.default_value.empty() ? "(none)" : doc.default_value,
                     doc.range.empty() ? "" : "; " + doc.range, "", doc.help);
}

template <class T>
std::string part_list(const char* where, const Registry<T>& registry) {
  std::string out;
  for (const auto& [name, entry] : registry.entries()) {
    out += fmt::format("\n{} {}  --  {}\n", where, name, entry.help);
    for (const FieldDoc& doc : entry.options) out += key_block(doc);
  }
  return out;
}

/// One block a key: name, type, default, range, meaning; then the options of the parts that have a
/// name.
std::string key_list() {
  std::string out;
  for (const FieldDoc& doc : run_config_docs()) {
    out += doc.type == "section" ? fmt::format("\n{}  --  {}\n", doc.path, doc.help) : key_block(doc);
  }
  return out + part_list("rewards: name:", builtin_rewards()) + part_list("embedder: name:", builtin_embedders()) +
         part_list("advantage: name:", builtin_advantages());
}

/// The defaults as YAML that reads back, each key with its type, range and meaning.
std::string commented_defaults() {
  std::string out;
  for (const FieldDoc& doc : run_config_docs()) {
    const auto depth = static_cast<size_t>(std::count(doc.path.begin(), doc.path.end(), '.'));
    const size_t dot = doc.path.rfind('.');
    const std::string key = std::string(2 * depth, ' ') + doc.path.substr(dot == std::string::npos ? 0 : dot + 1) + ":";
    if (doc.type == "section") {
      out += fmt::format("{:<34} # {}\n", key, doc.help);
      continue;
    }
    const bool required = doc.default_value == "(required)";
    const std::string value = required ? "\"\"" : doc.default_value;
    out += fmt::format("{:<34} # {}{}{}; {}\n", key + " " + value, doc.type, doc.range.empty() ? "" : ", " + doc.range,
                       required ? ", required" : "", doc.help);
  }
  return out;
}

int config(const ConfigArgs& args) {
  std::string text;
  if (!args.check.empty()) {
    if (std::error_code absent; std::filesystem::equivalent(args.check, args.out, absent))
      throw InputError(fmt::format("--out {}: is the file that is checked; choose another", args.out));
    const RunConfig config = load_checked_config(args.check, args.overrides);
    for (const std::string& warning : config_warnings(config))
      fmt::print(stderr, "{}: warning: {}\n", args.check, warning);
    text = fmt::format("{}: good (task {}, {} steps)", args.check, config.task, config.steps);
  } else {
    text = args.defaults ? commented_defaults() : key_list();
    while (!text.empty() && text.back() == '\n') text.pop_back();
  }
  LineWriter out(args.out);  // opening it empties the file: only when there is something to write
  out.write(text);
  out.close();
  return 0;
}

}  // namespace

void add_config(CLI::App& app, int* exit_code) {
  auto args = std::make_shared<ConfigArgs>();
  CLI::App* command = app.add_subcommand("config",
                                         "Lists every key of a training configuration with type, "
                                         "default, range and meaning, or checks a file");
  auto* defaults = command->add_flag("--defaults", args->defaults, "print the defaults as YAML with comments");
  auto* check = command->add_option("--check", args->check,
                                    "check this YAML file; every problem is listed with its place");
  defaults->excludes(check);
  add_override_option(*command, &args->overrides)->needs(check);
  command->add_option("--out", args->out, "write this file; - = standard output")->capture_default_str();
  command->callback([=] { *exit_code = config(*args); });
}

}  // namespace plural::app
