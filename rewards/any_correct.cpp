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
    out.row = input.answers.correct().amax(1);
    if (options_.require_format) out.row = out.row * input.answers.format_ok;
    return out;
  }

 private:
  Options options_;
};

}  // namespace

void register_any_correct(Registry<Reward>& registry) {
  add_reward<AnyCorrect>(registry, "any_correct", "1 if any answer of the set is correct");
}

}  // namespace plural
