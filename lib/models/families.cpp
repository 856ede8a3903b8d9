// SPDX-License-Identifier: Apache-2.0
#include "lib/models/families.h"

namespace plural {

const std::vector<ModelFamily>& model_families() {
  using enum BiasRule;
  // clang-format off
  static const std::vector<ModelFamily> families = {
      // model_type  q,k,v    o        mlp      qk_norm  window                 kv  head  context
      {"llama",      kConfig, kConfig, kConfig, false,   WindowRule::kNone,     0,  0,    2048},
      {"mistral",    kNever,  kNever,  kNever,  false,   WindowRule::kAll,      8,  0,    131072},
      {"qwen2",      kAlways, kNever,  kNever,  false,   WindowRule::kPerLayer, 32, 0,    32768},
      {"qwen3",      kConfig, kConfig, kNever,  true,    WindowRule::kPerLayer, 32, 128,  32768},
  };
  // clang-format on
  return families;
}

const ModelFamily* find_family(const std::string& model_type) {
  for (const ModelFamily& family : model_families())
    if (family.model_type == model_type) return &family;
  return nullptr;
}

}  // namespace plural
