// SPDX-License-Identifier: Apache-2.0
// Texts as vectors, for rewards that ask how alike two answers are.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "plural/registry.h"
#include "plural/tensor.h"

namespace plural {

class Policy;
class Tokenizer;

/// Texts -> vectors whose inner products are cosine similarities. A text's vector depends on nothing but the text (up
/// to float32 rounding of a neural encoder), so it may be remembered. Thread-safe unless a subclass says otherwise.
class Embedder {
 public:
  virtual ~Embedder() = default;
  virtual std::string name() const = 0;
  /// [texts, E] float32 on `device`, no gradient: rows of length 1, or 0 for a text in which there is nothing to embed.
  /// Any bytes are allowed. The rewards pass normal forms (answers.h), each once.
  virtual Tensor embed(std::span<const std::string_view> texts, at::Device device) const = 0;
  /// Cosine similarities within sets of texts: [B, K, K] float64 on the device of `index` [B, K] int64, which names the
  /// text of each slot; -1 = none: zeros in its row and column. Default: the inner products of embed()'s vectors.
  /// Override it where a text's vector is nearly all zeros.
  virtual Tensor similarities(std::span<const std::string_view> texts, const Tensor& index) const;
};

/// "char_ngrams" (no model), "minilm" (a BERT encoder's folder) and "policy" (docs/guides/embedders.md). The entry
/// "policy" makes a null pointer: it stands for RewardInput::policy_embedder, which exists only while a policy is
/// there. The caller may add more, and hand the registry to builtin_rewards().
Registry<Embedder> builtin_embedders();

/// The policy's own view of a text: the mean over its tokens of the final hidden states, divided by its length. A text
/// stands alone, after the tokenizer's bos token where there is one. It remembers what it embedded, so it must not
/// outlive a change of the weights: make one for each step. As the policy itself, for one thread at a time; both
/// arguments must outlive it. A policy without hidden states (Policy::hidden) throws InputError at the first call.
std::unique_ptr<Embedder> make_policy_embedder(Policy& policy, const Tokenizer& tokenizer);

}  // namespace plural
