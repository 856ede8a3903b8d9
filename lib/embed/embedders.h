// SPDX-License-Identifier: Apache-2.0
// The bundled embedders: one file and one line here and in embedders.cpp each.
#pragma once

#include <string>

#include "plural/embedder.h"

namespace plural {

void add_char_ngrams(Registry<Embedder>& registry);
void add_minilm(Registry<Embedder>& registry);
void add_policy_embedder(Registry<Embedder>& registry);

/// Registers class E, whose constructor takes E::Options, read from the entry's YAML node.
template <class E>
void add_embedder(Registry<Embedder>& registry, const std::string& name, const std::string& help) {
  using Options = typename E::Options;
  registry.add(
      name, help, [](const ConfigNode& node) { return std::make_unique<E>(read_options<Options>(node, "embedder")); },
      describe_options<Options>());
}

}  // namespace plural
