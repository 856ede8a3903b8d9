// SPDX-License-Identifier: Apache-2.0
#include "rewards/reward_support.h"

namespace plural {
namespace {

/// 1 where at least one answer of the set is correct.
class AnyCorrect final : public Reward {
 public:
  struct Options {
    bool require_format = false;
    template <class V>
    void fields(V& v) {
      v.field("require_format", require_format, any_value(), "0 where the format is broken");
    }
  };

  explicit AnyCorrect(Options options) : options_(options) {}
  std::string name() const override { return "any_correct"; }
  std::string formula() const override {
    return options_.require_format ? "1 if any answer is correct and the format holds" : "1 if any answer is correct";
  }

  RewardOutput score(const RewardInput& input) const override {
    RewardOutput out;
    out.per_answer = earned(input.answers);
    out.row = out.per_answer.sum(1);
    return out;
  }

  Tensor score_subset(const RewardInput& input, const Tensor& keep) const override {
    return earned(input.answers.keep(keep)).sum(1);
  }

  // Next to another correct answer one more earns nothing.
  double zero_confidence_margin(int64_t k, bool exclusive) const override { return k == 1 || exclusive ? 1 : 0; }

 private:
  // [B, K]: all of it goes to the first correct answer.
  Tensor earned(const AnswerBatch& answers) const {
    const Tensor first = rewards::first_correct(answers);
    return options_.require_format ? first * answers.format_ok.unsqueeze(1) : first;
  }

  Options options_;
};

}  // namespace

void register_any_correct(Registry<Reward>& registry) {
  add_reward<AnyCorrect>(registry, "any_correct", "1 if any answer of the set is correct");
}

}  // namespace plural
