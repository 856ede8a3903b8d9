// SPDX-License-Identifier: Apache-2.0
#include "lib/core/format.h"
#include "rewards/reward_support.h"

namespace plural {
namespace {

/// How many different gold answers the set hits.
class Coverage final : public Reward {
 public:
  struct Options {
    std::string denominator = "k";
    bool require_format = false;
    template <class V>
    void fields(V& v) {
      v.field("denominator", denominator, one_of({"k", "min_k_gold"}),
              "k: the answers asked for; min_k_gold: at most as many as there are gold answers");
      v.field("require_format", require_format, any_value(), "0 where the format is broken");
    }
  };

  explicit Coverage(Options options) : options_(std::move(options)) {}
  std::string name() const override { return "coverage"; }
  std::string formula() const override {
    return fmt::format("distinct gold answers hit / {}{}", options_.denominator == "k" ? "K" : "min(K, gold)",
                       options_.require_format ? ", 0 without format" : "");
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

  double zero_confidence_margin(int64_t k, bool) const override { return 1.0 / static_cast<double>(k); }

 private:
  // [B, K]: what each slot adds to those before it.
  Tensor earned(const AnswerBatch& answers) const {
    Tensor denominator = answers.k;
    if (options_.denominator == "min_k_gold") denominator = at::minimum(answers.k, answers.gold_count).clamp_min(1);
    const Tensor hits = answers.first_hit() / denominator.to(answers.confidence.scalar_type()).unsqueeze(1);
    return options_.require_format ? hits * answers.format_ok.unsqueeze(1) : hits;
  }

  Options options_;
};

}  // namespace

void register_coverage(Registry<Reward>& registry) {
  add_reward<Coverage>(registry, "coverage", "different gold answers that the set hits");
}

}  // namespace plural
