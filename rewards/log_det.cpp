// SPDX-License-Identifier: Apache-2.0
#include <cmath>

#include "lib/core/format.h"
#include "lib/kernels/set_gram/set_gram.h"
#include "rewards/diversity_support.h"

namespace plural {
namespace {

/// The volume that the answers' embeddings span: ln det(I + c S) over its largest possible value, S the cosine
/// similarities. det(L_A) is what a determinantal point process weighs a set A with (Kulesza and Taskar 2012,
/// arXiv 1207.6083, section 2.2); here L is I + c S, so that repeated answers do not make it -infinity. The same
/// expression is twice the information that noisy observations at the answers give of a Gaussian process with kernel S
/// and noise variance 1 / c (Srinivas et al. 2010, arXiv 0912.3995, section 2.2).
class LogDet final : public Reward {
 public:
  struct Options {
    PartSpec embedder = rewards::default_embedder();
    double scale = 10.0;
    bool correct_only = false;
    template <class V>
    void fields(V& v) {
      v.field("embedder", embedder, any_value(), rewards::kEmbedderHelp);
      v.field("scale", scale, above(0), "c: the larger, the less is paid for answers that are nearly the same");
      v.field("correct_only", correct_only, any_value(), rewards::kCorrectOnlyHelp);
    }
  };

  LogDet(Options options, rewards::AnswerSimilarity similarity)
      : options_(std::move(options)), similarity_(std::move(similarity)) {}
  std::string name() const override { return "log_det"; }
  std::string formula() const override {
    return fmt::format("ln det(I + {} S) / (K ln {}), S = cosines of the {}answers by {}", options_.scale,
                       1 + options_.scale, options_.correct_only ? "correct " : "", similarity_.name());
  }

  RewardOutput score(const RewardInput& input) const override {
    RewardOutput out;
    out.per_answer = earned(input, rewards::counted_slots(input.answers, options_.correct_only));
    out.row = out.per_answer.sum(1);
    return out;
  }

  Tensor score_subset(const RewardInput& input, const Tensor& keep) const override {
    return earned(input, rewards::counted_slots(input.answers, options_.correct_only).logical_and(keep)).sum(1);
  }

 private:
  // [B, K]: what each slot adds to those before it. A slot without an answer has a row of the identity: it adds 0.
  Tensor earned(const RewardInput& input, const Tensor& counted) const {
    const AnswerBatch& answers = input.answers;
    const Tensor similarity = similarity_.of(input, counted);
    const Tensor steps = kernels::log_det_steps(at::eye(answers.slots, similarity.options()) +
                                                options_.scale * similarity);
    // K orthogonal answers: no set has a larger determinant (Hadamard).
    const Tensor largest = answers.k.to(at::kDouble) * std::log1p(options_.scale);
    return (steps / largest.unsqueeze(1)).to(answers.confidence.scalar_type());
  }

  Options options_;
  rewards::AnswerSimilarity similarity_;
};

}  // namespace

void register_log_det(Registry<Reward>& registry, const Registry<Embedder>& embedders) {
  rewards::add_embedding_reward<LogDet>(registry, embedders, "log_det",
                                        "volume that the answers span in an embedding (DPP): ln det(I + c S)");
}

}  // namespace plural
