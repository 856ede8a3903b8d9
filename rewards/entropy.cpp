// SPDX-License-Identifier: Apache-2.0
#include <optional>

#include "lib/core/format.h"
#include "plural/error.h"
#include "rewards/reward_support.h"
#include "rewards/schedules.h"

namespace plural {
namespace {

/// Mean token entropy of the completion out of the largest possible, fading out over the run.
class Entropy final : public Reward {
 public:
  struct Options {
    int64_t decay_start_step = 200;
    double decay_final_factor = 0;
    template <class V>
    void fields(V& v) {
      v.field("decay_start_step", decay_start_step, at_least(0), "until this step the reward is paid in full");
      v.field("decay_final_factor", decay_final_factor, between(0, 1),
              "factor at the last step; between the two it falls linearly");
    }
  };

  explicit Entropy(Options options) : options_(options) {}
  std::string name() const override { return "entropy"; }
  std::string formula() const override {
    return fmt::format("mean token entropy / ln V, times 1 until step {} and falling to {} at the last",
                       options_.decay_start_step, options_.decay_final_factor);
  }
  bool needs_token_entropy() const override { return true; }

  RewardOutput score(const RewardInput& input) const override {
    const AnswerBatch& answers = input.answers;
    if (!input.token_entropy.defined())  // completions that nobody sampled here
      return {.row = at::zeros({answers.rows}, answers.confidence.options()),
              .valid = at::zeros_like(answers.format_ok)};
    PLURAL_CHECK(input.vocab_size >= 2, "token entropies come with the size of their vocabulary");
    const Tensor index = at::arange(input.token_entropy.size(1), answers.length.options());
    const Tensor mask = index.unsqueeze(0).lt(answers.length.unsqueeze(1));
    const std::optional<int64_t> step = input.steps > 0 ? std::optional(input.step) : std::nullopt;
    const EntropyRewardOptions options{.vocab_size = input.vocab_size,
                                       .decay_start_step = options_.decay_start_step,
                                       .decay_final_factor = options_.decay_final_factor};
    return {.row = entropy_reward(input.token_entropy, mask, options, step, input.steps)};
  }

 private:
  Options options_;
};

}  // namespace

void register_entropy(Registry<Reward>& registry) {
  add_reward<Entropy>(registry, "entropy", "mean token entropy, fading out over the run");
}

}  // namespace plural
