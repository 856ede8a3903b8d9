// SPDX-License-Identifier: Apache-2.0
#include <cmath>

#include "lib/core/format.h"
#include "rewards/reward_support.h"

namespace plural {
namespace {

/// How many different gold answers the set hits, or how much of their probability.
class Coverage final : public Reward {
 public:
  struct Options {
    std::string value = "count";
    std::string discount = "none";
    std::string denominator = "k";
    bool require_format = false;
    template <class V>
    void fields(V& v) {
      v.field("value", value, one_of({"count", "gold_mass"}),
              "what hitting a gold answer is worth: 1, or its share of the gold weights");
      v.field("discount", discount, one_of({"none", "log2"}), "log2: a hit by answer r counts 1 / log2(1 + r)");
      v.field("denominator", denominator, one_of({"k", "min_k_gold"}),
              "k: the worth of K hits (gold_mass: of all the mass); min_k_gold: of the best K answers to the question");
      v.field("require_format", require_format, any_value(), "0 where the format is broken");
    }
  };

  explicit Coverage(Options options) : options_(std::move(options)) {}
  std::string name() const override { return "coverage"; }
  std::string formula() const override {
    const std::string hit = mass() ? "gold probability hit" : "distinct gold answers hit";
    const std::string of = best_set() ? (mass() ? " / that of the best K" : " / min(K, gold)") : (mass() ? "" : " / K");
    return hit + of + (discounted() ? ", answer r counting 1 / log2(1 + r)" : "") +
           (options_.require_format ? ", 0 without format" : "");
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

  // A hit by the last answer; of several gold answers the rarest may have next to no mass.
  double zero_confidence_margin(int64_t k, bool exclusive) const override {
    if (mass() && !exclusive) return 0;
    double all = 0;
    for (int64_t rank = 1; rank <= k; ++rank) all += discount(rank);
    return mass() || (best_set() && exclusive) ? discount(k) : discount(k) / all;
  }

 private:
  bool mass() const { return options_.value == "gold_mass"; }
  bool discounted() const { return options_.discount == "log2"; }
  bool best_set() const { return options_.denominator == "min_k_gold"; }

  double discount(int64_t rank) const { return discounted() ? 1 / std::log2(1.0 + static_cast<double>(rank)) : 1; }

  // [K]: what a hit by each slot counts. A slot keeps its rank when others are left out.
  Tensor discounts(const AnswerBatch& answers) const {
    const Tensor rank = at::arange(1, answers.slots + 1, answers.confidence.options());
    return discounted() ? (1 + rank).log2().reciprocal() : at::ones_like(rank);
  }

  // [B, K]: what each slot adds to those before it.
  Tensor earned(const AnswerBatch& answers) const {
    Tensor hits = answers.first_hit() * discounts(answers) / denominator(answers).unsqueeze(1);
    if (mass()) hits = hits * answers.gold_weight.gather(1, answers.match.clamp_min(0));
    return options_.require_format ? hits * answers.format_ok.unsqueeze(1) : hits;
  }

  // [B]: what full coverage is worth before it is divided by this.
  Tensor denominator(const AnswerBatch& answers) const {
    const Tensor slots = rewards::asked(answers) * discounts(answers);  // [B, K]
    if (!best_set()) return mass() ? at::ones_like(slots.select(1, 0)) : slots.sum(1);
    Tensor worth;  // [B, Y]: of the gold answers, falling
    if (mass()) {
      worth = std::get<0>(answers.gold_weight.sort(1, /*descending=*/true));
    } else {
      const Tensor index = at::arange(answers.gold_weight.size(1), answers.gold_count.options());
      worth = index.unsqueeze(0).lt(answers.gold_count.unsqueeze(1)).to(slots.scalar_type());
    }
    const int64_t hits = std::min(slots.size(1), worth.size(1));
    const Tensor best = (slots.narrow(1, 0, hits) * worth.narrow(1, 0, hits)).sum(1);
    return at::where(best > 0, best, at::ones_like(best));  // no gold answers: nothing to hit
  }

  Options options_;
};

}  // namespace

void register_coverage(Registry<Reward>& registry) {
  add_reward<Coverage>(registry, "coverage", "different gold answers that the set hits, or their probability");
}

}  // namespace plural
