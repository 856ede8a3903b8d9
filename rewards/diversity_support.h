// SPDX-License-Identifier: Apache-2.0
// What the rewards for diversity share: which answers they look at, and how alike these are.
//
// Everywhere here an answer is a slot that holds a word: a slot that is absent, or whose normal form is empty, adds
// nothing to a set, as if it were not written.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "plural/embedder.h"
#include "rewards/reward_support.h"

namespace plural::rewards {

/// The option of the whole family. Diversity alone pays for rare wrong answers as well as for rare right ones.
inline constexpr char
    kCorrectOnlyHelp[] = "look at the correct answers only; off: wrong answers are paid for being different, too";

/// The choice of an embedder in a reward's options.
inline constexpr char kEmbedderHelp[] = "what compares two answers: char_ngrams, minilm or policy, with its options";
inline PartSpec default_embedder() {
  PartSpec spec{"char_ngrams", {}};
  spec.options.kind = ConfigNode::Kind::kMap;
  return spec;
}

/// Options of a reward that compares answers by embeddings and has no others.
struct EmbeddingOptions {
  PartSpec embedder = default_embedder();
  bool correct_only = false;
  template <class V>
  void fields(V& v) {
    v.field("embedder", embedder, any_value(), kEmbedderHelp);
    v.field("correct_only", correct_only, any_value(), kCorrectOnlyHelp);
  }
};

/// [B, K] bool: the slots to look at.
inline Tensor counted_slots(const AnswerBatch& answers, bool correct_only) {
  return correct_only ? answers.present.logical_and(answers.match.ge(0)) : answers.present;
}

/// [B, K] int64 on the device of the batch: equal within a row = the same normal form (or, with `word_sets`, the same
/// set of singular-folded words); -1 = not counted, or without a word. Host work, one pass.
Tensor text_keys(const AnswerBatch& answers, const Tensor& counted, bool word_sets);

/// [B, K] bool: true where the slot is counted and no earlier counted slot is like it. alike: [B, K, K] bool; its
/// diagonal is true for answers.
Tensor first_of_its_kind(const Tensor& alike);

/// Mean distance over the pairs of the k answers asked for, from similarities [B, K, K] float64 whose diagonal is 1 for
/// answers and 0 for other slots. A pair lacking an answer has distance 0; similarities count within [0, 1]. Each
/// answer earns half of the distance of each of its pairs (the pair's Shapley values). [B, K] float64, sums to the
/// mean.
Tensor pair_distance_parts(const Tensor& similarity, const Tensor& k);

/// Cosine similarities of answers by the embedder that a reward's options name.
class AnswerSimilarity {
 public:
  /// `embedder`: null = the policy's, RewardInput::policy_embedder.
  explicit AnswerSimilarity(std::unique_ptr<Embedder> embedder) : embedder_(std::move(embedder)) {}
  std::string name() const { return embedder_ ? embedder_->name() : "policy"; }
  /// [B, K, K] float64 on the device of the batch: of the normal forms of two counted slots; 0 where a slot is not
  /// counted or has nothing to embed, 1 on the diagonal elsewhere. Each distinct text is embedded once. InputError
  /// where the policy is needed and there is none.
  Tensor of(const RewardInput& input, const Tensor& counted) const;

 private:
  const Embedder& embedder(const RewardInput& input) const;
  std::unique_ptr<Embedder> embedder_;
};

/// Adds reward class R, whose constructor takes R::Options (with a field `embedder`) and an AnswerSimilarity.
template <class R>
void add_embedding_reward(Registry<Reward>& registry, const Registry<Embedder>& embedders, const std::string& name,
                          const std::string& help) {
  using Options = typename R::Options;
  registry.add(
      name, help,
      [embedders](const ConfigNode& node) -> std::unique_ptr<Reward> {
        auto options = read_options<Options>(node);
        AnswerSimilarity similarity(embedders.make(options.embedder.name, options.embedder.options));
        return std::make_unique<R>(std::move(options), std::move(similarity));
      },
      describe_options<Options>());
}

}  // namespace plural::rewards
