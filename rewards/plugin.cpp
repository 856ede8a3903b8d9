// SPDX-License-Identifier: Apache-2.0
#include "plural/plugin.h"

#include <dlfcn.h>

#include <algorithm>
#include <cstring>

#include "lib/core/format.h"
#include "plural/error.h"

namespace plural {
namespace {

constexpr const char* kEntryPoint = "plural_plugin_v1";

std::string last_dl_error() {
  const char* text = ::dlerror();
  return text != nullptr ? text : "unknown error";
}

}  // namespace

void load_plugin(const std::filesystem::path& file, Registry<Reward>& registry) {
  const auto refuse = [&](const std::string& what) {
    throw InputError(fmt::format("plugin {}: {}", file.string(), what));
  };
  std::error_code ignored;
  // With a slash, so that the loader looks at this path and nowhere else.
  const std::filesystem::path path = std::filesystem::absolute(file, ignored);
  if (!std::filesystem::exists(path, ignored)) refuse("there is no such file; build the library, or correct the path");
  // Everything is resolved now: a symbol that this program lacks is an error here, not in the middle of a run.
  void* library = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) refuse(fmt::format("cannot be loaded: {}", last_dl_error()));
  void* symbol = ::dlsym(library, kEntryPoint);
  if (symbol == nullptr)
    refuse(
        fmt::format("has no entry point {}; write PLURAL_PLUGIN(name, function) in one of its sources", kEntryPoint));
  const PluginInfo* info = reinterpret_cast<const PluginInfo* (*)()>(symbol)();
  if (info == nullptr || info->abi == nullptr || std::strcmp(info->abi, PLURAL_PLUGIN_ABI) != 0) {
    refuse(fmt::format("was built for '{}', this program is '{}'; build it again against this plural",
                       info != nullptr && info->abi != nullptr ? info->abi : "nothing", PLURAL_PLUGIN_ABI));
  }
  Registry<Reward> own("reward");
  try {
    info->add_rewards(own);
  } catch (const std::exception& error) {
    refuse(fmt::format("its rewards cannot be added: {}", error.what()));
  }
  if (own.entries().empty()) refuse("adds no rewards");
  for (const auto& [name, entry] : own.entries()) {
    if (registry.entries().contains(name))
      refuse(fmt::format("its reward '{}' has the name of one that is there already; choose another name", name));
    registry.add(name, entry.help, entry.make, entry.options);
  }
}

}  // namespace plural
