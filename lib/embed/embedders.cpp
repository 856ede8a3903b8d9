// SPDX-License-Identifier: Apache-2.0
#include "lib/embed/embedders.h"

#include "lib/kernels/set_gram/set_gram.h"
#include "plural/error.h"

namespace plural {

Tensor Embedder::similarities(std::span<const std::string_view> texts, const Tensor& index) const {
  const Tensor vectors = embed(texts, index.device());
  check_shapes({{"embeddings", vectors, "n E"}});
  PLURAL_CHECK(vectors.size(0) == static_cast<int64_t>(texts.size()), "an embedder must give one vector a text");
  return kernels::set_gram(vectors, index);
}

Registry<Embedder> builtin_embedders() {
  Registry<Embedder> registry("embedder");
  add_char_ngrams(registry);
  add_minilm(registry);
  add_policy_embedder(registry);
  return registry;
}

}  // namespace plural
