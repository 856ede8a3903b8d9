// SPDX-License-Identifier: Apache-2.0
// One source for all that a plugin can get wrong.
#include <plural/plugin.h>

#include <memory>

#include "plural/error.h"

namespace {

[[maybe_unused]] void add_rewards(plural::Registry<plural::Reward>& registry) {
#if defined(PLUGIN_TAKEN_NAME)
  registry.add("coverage", "not ours", [](const plural::ConfigNode&) { return std::unique_ptr<plural::Reward>(); });
#elif defined(PLUGIN_THROWS)
  throw plural::InputError("no licence");
#endif
}

}  // namespace

#if defined(PLUGIN_OLD_ABI)
extern "C" __attribute__((visibility("default"))) const plural::PluginInfo* plural_plugin_v1() {
  static const plural::PluginInfo info = {"plural 0.0.1, torch 1.0", "old", add_rewards};
  return &info;
}
#elif !defined(PLUGIN_NO_ENTRY)
PLURAL_PLUGIN("bad", add_rewards)
#endif
