// SPDX-License-Identifier: Apache-2.0
#include "lib/core/format.h"
#include "rewards/diversity_support.h"

namespace plural {
namespace {

/// Whether, or how much, the answers differ from each other.
class Uniqueness final : public Reward {
 public:
  struct Options {
    std::string mode = "all";
    std::string compare = "matcher";
    double threshold = 0.9;
    PartSpec embedder = rewards::default_embedder();
    bool correct_only = false;
    template <class V>
    void fields(V& v) {
      v.field("mode", mode, one_of({"all", "share"}),
              "all: 1 if all K answers are there and differ, else 0; share: distinct answers / K");
      v.field("compare", compare, one_of({"matcher", "normal_form", "word_set", "embedding"}),
              "what makes two answers the same: the matcher's key, equal normal forms, equal sets of singular-folded "
              "words, or a cosine of at least `threshold`");
      v.field("threshold", threshold, between(0, 1), "cosine from which two answers are the same (compare: embedding)");
      v.field("embedder", embedder, any_value(), rewards::kEmbedderHelp);
      v.field("correct_only", correct_only, any_value(), rewards::kCorrectOnlyHelp);
    }
  };

  Uniqueness(Options options, rewards::AnswerSimilarity similarity)
      : options_(std::move(options)), similarity_(std::move(similarity)) {}
  std::string name() const override { return "uniqueness"; }
  std::string formula() const override {
    const std::string correct = options_.correct_only ? "correct " : "";
    const std::string how = options_.compare == "matcher"       ? ""
                            : options_.compare == "normal_form" ? " by normal form"
                            : options_.compare == "word_set"
                                ? " by word set"
                                : fmt::format(" (cosine by {} below {})", similarity_.name(), options_.threshold);
    return options_.mode == "all" ? fmt::format("1 if all K {}answers are there and differ{}", correct, how)
                                  : fmt::format("distinct {}answers / K{}", correct, how);
  }

  RewardOutput score(const RewardInput& input) const override {
    RewardOutput out;
    if (options_.mode == "all") {
      out.row = all_differ(input).to(input.answers.confidence.scalar_type());
    } else {
      out.per_answer = share(input, rewards::counted_slots(input.answers, options_.correct_only));
      out.row = out.per_answer.sum(1);
    }
    return out;
  }

  Tensor score_subset(const RewardInput& input, const Tensor& keep) const override {
    if (options_.mode == "all") return {};  // a verdict on the whole set
    return share(input, rewards::counted_slots(input.answers, options_.correct_only).logical_and(keep)).sum(1);
  }

 private:
  // [B] bool.
  Tensor all_differ(const RewardInput& input) const {
    const AnswerBatch& answers = input.answers;
    // The reference's rule, by which one answer without a word counts as an answer too.
    if (answers.single_answer || (options_.compare == "matcher" && !options_.correct_only))
      return rewards::all_distinct(answers);
    const Tensor distinct = first_ones(input, rewards::counted_slots(answers, options_.correct_only));
    return answers.extracted.logical_and(distinct.sum(1).eq(answers.k));
  }

  // [B, K]: 1/K for the first slot of each answer.
  Tensor share(const RewardInput& input, const Tensor& counted) const {
    return first_ones(input, counted) / rewards::asked_count(input.answers).unsqueeze(1);
  }

  // [B, K] bool: the counted slots that are not the same as an earlier one.
  Tensor first_ones(const RewardInput& input, const Tensor& counted) const {
    if (options_.compare == "embedding") {
      const Tensor cosine = similarity_.of(input, counted);
      // Rounding must not part a text from itself.
      return rewards::first_of_its_kind(cosine.ge(options_.threshold - 1e-6).logical_and(cosine.gt(0)));
    }
    const Tensor key = options_.compare == "matcher"
                           ? input.answers.key.masked_fill(counted.logical_not(), -1)
                           : rewards::text_keys(input.answers, counted, options_.compare == "word_set");
    return rewards::first_of_its_kind(key.unsqueeze(1).eq(key.unsqueeze(2)).logical_and(key.ge(0).unsqueeze(2)));
  }

  Options options_;
  rewards::AnswerSimilarity similarity_;
};

}  // namespace

void register_uniqueness(Registry<Reward>& registry, const Registry<Embedder>& embedders) {
  rewards::add_embedding_reward<Uniqueness>(registry, embedders, "uniqueness", "whether the answers of the set differ");
}

}  // namespace plural
