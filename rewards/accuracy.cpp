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
    const AnswerBatch& answers = input.answers;
    Tensor allowed = answers.format_ok;
    const bool automatic = answers.has_confidences && !answers.single_answer;
    if (options_.enforce_uniqueness == "always" || (options_.enforce_uniqueness == "auto" && automatic))
      allowed = allowed.logical_and(rewards::all_distinct(answers));
    RewardOutput out;
    if (options_.more_than_one_correctness_point) {
      out.per_answer = answers.correct() * answers.first_of_key() * allowed.unsqueeze(1) /
                       rewards::asked_count(answers).unsqueeze(1);
      out.row = out.per_answer.sum(1);
    } else {
      out.row = answers.correct().amax(1) * allowed;
    }
    return out;
  }

 private:
  Options options_;
};

}  // namespace

void register_accuracy(Registry<Reward>& registry) {
  add_reward<Accuracy>(registry, "accuracy", "correctness of the set, gated on its format");
}

}  // namespace plural
