// SPDX-License-Identifier: Apache-2.0
#include "lib/core/format.h"
#include "rewards/reward_support.h"

namespace plural {
namespace {

/// Multi-Brier (arXiv 2603.24844): 1 - mean over the answers of (confidence - correct)^2.
class Brier final : public Reward {
 public:
  struct Options {
    bool require_format = true;
    bool require_unique = true;
    bool sum_at_most_one = true;
    std::string duplicates = "correct";
    template <class V>
    void fields(V& v) {
      v.field(
          "require_format", require_format, any_value(),
          "0 unless the format holds and each of the K answers has a confidence in [0, 1]; off: a slot without them "
          "counts as the worst forecast");
      v.field("require_unique", require_unique, any_value(), "0 unless all K answers differ");
      v.field("sum_at_most_one", sum_at_most_one, any_value(),
              "0 unless the confidences add up to at most 1 (for questions with a single right answer)");
      v.field("duplicates", duplicates, one_of({"correct", "wrong"}),
              "whether a second answer that hits the same gold answer counts as correct");
    }
  };

  explicit Brier(Options options) : options_(std::move(options)) {}
  std::string name() const override { return "brier"; }
  std::string formula() const override {
    return fmt::format("1 - mean (confidence - correct)^2{}{}{}{}", options_.require_format ? ", 0 without format" : "",
                       options_.require_unique ? ", 0 with duplicates" : "",
                       options_.sum_at_most_one ? ", 0 if confidences sum above 1" : "",
                       options_.duplicates == "wrong" ? "; a repeated hit is wrong" : "");
  }

  RewardOutput score(const RewardInput& input) const override {
    const AnswerBatch& answers = input.answers;
    const Tensor outcome = options_.duplicates == "wrong" ? answers.first_hit() : answers.correct();
    const Tensor asked = rewards::asked(answers);
    const Tensor stated = answers.present.logical_and(answers.confidence_ok);
    Tensor error = (answers.confidence - outcome).square();
    error = at::where(stated, error, at::ones_like(error));  // silence is the worst forecast

    Tensor allowed = at::ones_like(answers.format_ok);
    if (options_.require_format)
      allowed = allowed.logical_and(answers.format_ok).logical_and(rewards::confidences_usable(answers));
    if (options_.require_unique) allowed = allowed.logical_and(rewards::answers_differ(answers));
    if (options_.sum_at_most_one) allowed = allowed.logical_and(rewards::sum_at_most_one(answers));
    error = at::where(allowed.unsqueeze(1), error, at::ones_like(error));

    // row = 1 + sum of per_answer, so a row that is not allowed gets 0.
    RewardOutput out;
    out.per_answer = -(error / rewards::asked_count(answers).unsqueeze(1)) * asked;
    out.row = at::where(allowed, 1 + out.per_answer.sum(1), at::zeros_like(error.select(1, 0)));
    return out;
  }

 private:
  Options options_;
};

}  // namespace

void register_brier(Registry<Reward>& registry) {
  add_reward<Brier>(registry, "brier", "how well the confidences fit: 1 - mean squared error");
}

}  // namespace plural
