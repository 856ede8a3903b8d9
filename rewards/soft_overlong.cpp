// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "lib/core/format.h"
#include "rewards/reward_support.h"

namespace plural {
namespace {

/// Soft overlong punishment (DAPO, arXiv 2503.14476, equation 13): from 0 to -1 over the last tokens before the limit.
class SoftOverlong final : public Reward {
 public:
  struct Options {
    int64_t max_tokens = 0;
    int64_t buffer_tokens = 0;
    template <class V>
    void fields(V& v) {
      v.field("max_tokens", max_tokens, at_least(0), "L_max, limit of a completion; 0 = sampling.max_new_tokens");
      v.field("buffer_tokens", buffer_tokens, at_least(0),
              "L_cache, length of the slope before the limit; 0 = a fifth of it, as in the paper");
    }
    void validate(ConfigReader& reader) {
      if (max_tokens > 0 && buffer_tokens > max_tokens)
        reader.problem("buffer_tokens",
                       fmt::format("the slope is at most as long as max_tokens {}, got {}", max_tokens, buffer_tokens));
    }
  };

  explicit SoftOverlong(Options options) : options_(options) {}
  std::string name() const override { return "soft_overlong"; }
  std::string formula() const override {
    const std::string max = options_.max_tokens > 0 ? fmt::format("{}", options_.max_tokens) : "max_new_tokens";
    const std::string buffer = options_.buffer_tokens > 0 ? fmt::format("{}", options_.buffer_tokens) : max + "/5";
    return fmt::format("0 up to {0} - {1} tokens, falling to -1 at {0}", max, buffer);
  }

  RewardOutput score(const RewardInput& input) const override {
    const AnswerBatch& answers = input.answers;
    const int64_t limit = options_.max_tokens > 0 ? options_.max_tokens : input.max_new_tokens;
    const auto options = answers.confidence.options();
    if (limit <= 0)  // nobody said what is too long
      return {.row = at::zeros({answers.rows}, options), .valid = at::zeros_like(answers.format_ok)};
    const double buffer = static_cast<double>(options_.buffer_tokens > 0 ? options_.buffer_tokens
                                                                         : std::max<int64_t>(1, limit / 5));
    const Tensor length = answers.length.to(options.dtype());
    // Completions that came as text only have no length.
    return {.row = ((static_cast<double>(limit) - buffer - length) / buffer).clamp(-1, 0), .valid = length > 0};
  }

 private:
  Options options_;
};

}  // namespace

void register_soft_overlong(Registry<Reward>& registry) {
  add_reward<SoftOverlong>(registry, "soft_overlong", "-1 to 0: penalty near the longest completion allowed");
}

}  // namespace plural
