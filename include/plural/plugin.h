// SPDX-License-Identifier: Apache-2.0
// Rewards from a shared library, named under `plugins:` in the YAML of `plural train` and `plural score`
// (docs/guides/your_own_reward.md). The library says PLURAL_PLUGIN("name", add_rewards) in one source file, where
//
//   void add_rewards(plural::Registry<plural::Reward>& registry) { registry.add("brevity", ...); }
#pragma once

#include <torch/headeronly/version.h>

#include <filesystem>
#include <string>
#include <vector>

#include "plural/reward.h"
#include "plural/version.h"

/// What a library and its host must share, as they hand C++ objects to each other.
#define PLURAL_PLUGIN_TEXT_(x) #x
#define PLURAL_PLUGIN_TEXT(x) PLURAL_PLUGIN_TEXT_(x)
#define PLURAL_PLUGIN_ABI                                                                             \
  "plural " PLURAL_VERSION ", torch " PLURAL_PLUGIN_TEXT(TORCH_VERSION_MAJOR) "." PLURAL_PLUGIN_TEXT( \
      TORCH_VERSION_MINOR) ", C++ ABI " PLURAL_PLUGIN_TEXT(__GXX_ABI_VERSION) ", new strings " PLURAL_PLUGIN_TEXT(_GLIBCXX_USE_CXX11_ABI)

namespace plural {

/// What the entry point plural_plugin_v1 returns. Plain C data up to the check of `abi`.
struct PluginInfo {
  const char* abi;   ///< PLURAL_PLUGIN_ABI as the library saw it
  const char* name;  ///< for messages
  void (*add_rewards)(Registry<Reward>& registry);
};

/// Loads the library and adds its rewards; it stays loaded until the process ends. Throws InputError naming the file:
/// it cannot be loaded, has no entry point, was built for another plural, LibTorch or compiler, takes the name of a
/// reward that exists, or throws.
void load_plugin(const std::filesystem::path& file, Registry<Reward>& registry);

}  // namespace plural

/// Defines the entry point of a library of rewards.
#define PLURAL_PLUGIN(name, add_rewards)                                                           \
  extern "C" __attribute__((visibility("default"))) const plural::PluginInfo* plural_plugin_v1() { \
    static const plural::PluginInfo info = {PLURAL_PLUGIN_ABI, name, add_rewards};                 \
    return &info;                                                                                  \
  }
