// SPDX-License-Identifier: Apache-2.0
#include "lib/core/format.h"
#include "rewards/reward_support.h"

namespace plural {
namespace {

/// 1 where one of the `i` top-ranked answers is correct and the format holds.
class PassAtI final : public Reward {
 public:
  struct Options {
    int64_t i = 3;
    template <class V>
    void fields(V& v) {
      v.field("i", i, at_least(1), "how many of the ranked answers count");
    }
  };

  explicit PassAtI(Options options) : options_(options) {}
  std::string name() const override { return "pass_at_i"; }
  std::string formula() const override {
    return fmt::format("1 if one of the top {} answers is correct, 0 without format", options_.i);
  }
  RewardOutput score(const RewardInput& input) const override {
    RewardOutput out;
    out.row = rewards::pass_at(input.answers, options_.i);
    return out;
  }
  // Next to another correct answer, or behind the top ranks, one more earns nothing.
  double zero_confidence_margin(int64_t k, bool) const override { return k == 1 ? 1 : 0; }

 private:
  Options options_;
};

}  // namespace

void register_pass_at_i(Registry<Reward>& registry) {
  add_reward<PassAtI>(registry, "pass_at_i", "1 if one of the i top-ranked answers is correct");
}

}  // namespace plural
