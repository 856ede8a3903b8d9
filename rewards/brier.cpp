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
  bool judges_confidences() const override { return true; }
  std::string formula() const override {
    return fmt::format("1 - mean (confidence - correct)^2{}{}{}{}", options_.require_format ? ", 0 without format" : "",
                       options_.require_unique ? ", 0 with duplicates" : "",
                       options_.sum_at_most_one ? ", 0 if confidences sum above 1" : "",
                       options_.duplicates == "wrong" ? "; a repeated hit is wrong" : "");
  }

  RewardOutput score(const RewardInput& input) const override {
    const Tensor allowed = this->allowed(input.answers);
    RewardOutput out;
    out.per_answer = lost(input.answers, allowed);
    out.row = total(allowed, out.per_answer);
    return out;
  }

  Tensor score_subset(const RewardInput& input, const Tensor& keep) const override {
    const Tensor allowed = this->allowed(input.answers);
    return total(allowed, lost(input.answers.keep(keep), allowed) * keep);
  }

  double zero_confidence_margin(int64_t k, bool) const override { return -1.0 / static_cast<double>(k); }

 private:
  // [B] bool: the rows whose confidences are judged at all.
  Tensor allowed(const AnswerBatch& answers) const {
    Tensor allowed = at::ones_like(answers.format_ok);
    if (options_.require_format)
      allowed = allowed.logical_and(answers.format_ok).logical_and(rewards::confidences_usable(answers));
    if (options_.require_unique) allowed = allowed.logical_and(rewards::answers_differ(answers));
    if (options_.sum_at_most_one) allowed = allowed.logical_and(rewards::sum_at_most_one(answers));
    return allowed;
  }

  // [B, K]: minus each slot's share of the error; the largest possible where the row is not allowed.
  Tensor lost(const AnswerBatch& answers, const Tensor& allowed) const {
    const Tensor outcome = options_.duplicates == "wrong" ? answers.first_hit() : answers.correct();
    const Tensor asked = rewards::asked(answers);
    const Tensor stated = answers.present.logical_and(answers.confidence_ok);
    Tensor error = (answers.confidence - outcome).square();
    error = at::where(stated, error, at::ones_like(error));  // silence is the worst forecast
    error = at::where(allowed.unsqueeze(1), error, at::ones_like(error));
    return -(error / rewards::asked_count(answers).unsqueeze(1)) * asked;
  }

  // [B]: 1 minus the error; 0 for a row that is not allowed.
  static Tensor total(const Tensor& allowed, const Tensor& lost) {
    return at::where(allowed, 1 + lost.sum(1), at::zeros_like(lost.select(1, 0)));
  }

  Options options_;
};

}  // namespace

void register_brier(Registry<Reward>& registry) {
  add_reward<Brier>(registry, "brier", "how well the confidences fit: 1 - mean squared error");
}

}  // namespace plural
