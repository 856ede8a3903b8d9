// SPDX-License-Identifier: Apache-2.0
#include "lib/core/format.h"
#include "rewards/diversity_support.h"

namespace plural {
namespace {

/// Mean over the pairs of answers of 1 - cosine of their embeddings.
class EmbeddingDistance final : public Reward {
 public:
  using Options = rewards::EmbeddingOptions;

  EmbeddingDistance(Options options, rewards::AnswerSimilarity similarity)
      : options_(std::move(options)), similarity_(std::move(similarity)) {}
  std::string name() const override { return "embedding_distance"; }
  std::string formula() const override {
    return fmt::format("mean over pairs of {}answers of 1 - cosine by {}", options_.correct_only ? "correct " : "",
                       similarity_.name());
  }

  RewardOutput score(const RewardInput& input) const override {
    RewardOutput out;
    out.per_answer = earned(input, rewards::counted_slots(input.answers, options_.correct_only));
    out.row = out.per_answer.sum(1);
    out.valid = input.answers.k.gt(1);  // one answer has no pairs
    return out;
  }

  Tensor score_subset(const RewardInput& input, const Tensor& keep) const override {
    return earned(input, rewards::counted_slots(input.answers, options_.correct_only).logical_and(keep)).sum(1);
  }

 private:
  Tensor earned(const RewardInput& input, const Tensor& counted) const {
    return rewards::pair_distance_parts(similarity_.of(input, counted), input.answers.k)
        .to(input.answers.confidence.scalar_type());
  }

  Options options_;
  rewards::AnswerSimilarity similarity_;
};

}  // namespace

void register_embedding_distance(Registry<Reward>& registry, const Registry<Embedder>& embedders) {
  rewards::add_embedding_reward<EmbeddingDistance>(registry, embedders, "embedding_distance",
                                                   "mean pairwise distance of the answers' embeddings");
}

}  // namespace plural
