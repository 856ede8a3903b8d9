// SPDX-License-Identifier: Apache-2.0
#include "lib/core/format.h"
#include "rewards/reward_support.h"

namespace plural {
namespace {

/// Correctness of the set, 0 where the format (and, where enforced, uniqueness) is broken.
class Accuracy final : public Reward {
 public:
  struct Options {
    bool more_than_one_correctness_point = false;
    std::string enforce_uniqueness = "auto";
    template <class V>
    void fields(V& v) {
      v.field("more_than_one_correctness_point", more_than_one_correctness_point, any_value(),
              "different correct answers / K instead of 1 for any");
      v.field("enforce_uniqueness", enforce_uniqueness, one_of({"auto", "always", "never"}),
              "0 unless all answers differ; auto: in set formats with confidences");
    }
  };

  explicit Accuracy(Options options) : options_(std::move(options)) {}
  std::string name() const override { return "accuracy"; }
  std::string formula() const override {
    return fmt::format(
        "{}, 0 without format{}",
        options_.more_than_one_correctness_point ? "different correct answers / K" : "1 if any answer is correct",
        options_.enforce_uniqueness == "never" ? "" : " or with duplicates");
  }

  RewardOutput score(const RewardInput& input) const override {
    RewardOutput out;
    out.per_answer = earned(input.answers, allowed(input.answers));
    out.row = out.per_answer.sum(1);
    return out;
  }

  Tensor score_subset(const RewardInput& input, const Tensor& keep) const override {
    return earned(input.answers.keep(keep), allowed(input.answers)).sum(1);
  }

  double zero_confidence_margin(int64_t k, bool exclusive) const override {
    if (options_.more_than_one_correctness_point) return 1.0 / static_cast<double>(k);
    return k == 1 || exclusive ? 1 : 0;  // next to another correct answer one more earns nothing
  }

 private:
  // [B] bool: the rows whose answers are looked at.
  Tensor allowed(const AnswerBatch& answers) const {
    const bool automatic = answers.has_confidences && !answers.single_answer;
    if (options_.enforce_uniqueness == "always" || (options_.enforce_uniqueness == "auto" && automatic))
      return answers.format_ok.logical_and(rewards::all_distinct(answers));
    return answers.format_ok;
  }

  // [B, K]: what each slot adds to those before it.
  Tensor earned(const AnswerBatch& answers, const Tensor& allowed) const {
    const Tensor hits = options_.more_than_one_correctness_point
                            ? answers.correct() * answers.first_of_key() / rewards::asked_count(answers).unsqueeze(1)
                            : rewards::first_correct(answers);
    return hits * allowed.unsqueeze(1);
  }

  Options options_;
};

}  // namespace

void register_accuracy(Registry<Reward>& registry) {
  add_reward<Accuracy>(registry, "accuracy", "correctness of the set, gated on its format");
}

}  // namespace plural
