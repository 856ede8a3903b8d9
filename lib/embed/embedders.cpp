// SPDX-License-Identifier: Apache-2.0
#include "lib/embed/embedders.h"

namespace plural {

Registry<Embedder> builtin_embedders() {
  Registry<Embedder> registry("embedder");
  add_char_ngrams(registry);
  add_minilm(registry);
  add_policy_embedder(registry);
  return registry;
}

}  // namespace plural
