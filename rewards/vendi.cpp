// SPDX-License-Identifier: Apache-2.0
#include "lib/core/format.h"
#include "lib/kernels/set_gram/set_gram.h"
#include "rewards/diversity_support.h"

namespace plural {
namespace {

/// The Vendi score of the cosine similarities of the answers, an effective number of different ones, out of the K asked
/// for.
class Vendi final : public Reward {
 public:
  using Options = rewards::EmbeddingOptions;

  Vendi(Options options, rewards::AnswerSimilarity similarity)
      : options_(std::move(options)), similarity_(std::move(similarity)) {}
  std::string name() const override { return "vendi"; }
  std::string formula() const override {
    return fmt::format("exp(entropy of the eigenvalues of S / n) / K, S = cosines of the n {}answers by {}",
                       options_.correct_only ? "correct " : "", similarity_.name());
  }

  RewardOutput score(const RewardInput& input) const override {
    RewardOutput out;
    out.row = effective_share(input, rewards::counted_slots(input.answers, options_.correct_only));
    return out;
  }

  Tensor score_subset(const RewardInput& input, const Tensor& keep) const override {
    return effective_share(input, rewards::counted_slots(input.answers, options_.correct_only).logical_and(keep));
  }

 private:
  Tensor effective_share(const RewardInput& input, const Tensor& counted) const {
    return (kernels::vendi_scores(similarity_.of(input, counted)) / input.answers.k)
        .to(input.answers.confidence.scalar_type());
  }

  Options options_;
  rewards::AnswerSimilarity similarity_;
};

}  // namespace

void register_vendi(Registry<Reward>& registry, const Registry<Embedder>& embedders) {
  rewards::add_embedding_reward<Vendi>(registry, embedders, "vendi",
                                       "Vendi score, an effective number of different answers, out of K");
}

}  // namespace plural
