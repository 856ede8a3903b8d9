// SPDX-License-Identifier: Apache-2.0
#include <ATen/Parallel.h>

#include "lib/core/format.h"
#include "lib/text/words.h"
#include "rewards/diversity_support.h"

namespace plural {
namespace {

/// distinct-n (Li et al. 2016, arXiv 1510.03055, section 5.2) of a set: different word n-grams / all word n-grams of
/// its answers, times the share of the K answers that are there.
class DistinctN final : public Reward {
 public:
  struct Options {
    int64_t n = 1;
    bool correct_only = false;
    template <class V>
    void fields(V& v) {
      v.field("n", n, at_least(1), "words of an n-gram; answers of fewer words have none");
      v.field("correct_only", correct_only, any_value(), rewards::kCorrectOnlyHelp);
    }
  };

  explicit DistinctN(Options options) : options_(options) {}
  std::string name() const override { return "distinct_n"; }
  std::string formula() const override {
    return fmt::format("different {0}-grams / all {0}-grams of the {1}answers x share of the K answers given",
                       options_.n, options_.correct_only ? "correct " : "");
  }

  RewardOutput score(const RewardInput& input) const override {
    RewardOutput out;
    out.per_answer = earned(input.answers, rewards::counted_slots(input.answers, options_.correct_only));
    out.row = out.per_answer.sum(1);
    return out;
  }

  Tensor score_subset(const RewardInput& input, const Tensor& keep) const override {
    return earned(input.answers, rewards::counted_slots(input.answers, options_.correct_only).logical_and(keep)).sum(1);
  }

 private:
  // [B, K]: the n-grams that no earlier answer had, as their share of the value. Host work.
  Tensor earned(const AnswerBatch& answers, const Tensor& counted_on_device) const {
    const Tensor host_counted = counted_on_device.to(at::kCPU).contiguous(), host_k = answers.k.to(at::kCPU);
    const auto counted = host_counted.accessor<bool, 2>();
    const auto k = host_k.accessor<int64_t, 1>();
    Tensor parts = at::zeros({answers.rows, answers.slots}, at::kDouble);
    auto part = parts.accessor<double, 2>();
    at::parallel_for(0, answers.rows, /*grain_size=*/64, [&](int64_t begin, int64_t end) {
      for (int64_t b = begin; b < end; ++b) {
        const std::vector<Answer>& set = answers.sets[static_cast<size_t>(b)].answers;
        std::vector<std::string_view> texts;
        std::vector<int64_t> slots;
        for (size_t i = 0; i < set.size(); ++i) {
          const auto slot = static_cast<int64_t>(i);
          if (!counted[b][slot] || set[i].normal.empty()) continue;
          texts.push_back(set[i].normal);
          slots.push_back(slot);
        }
        const DistinctCounts grams = count_distinct_n_grams(texts, options_.n);
        if (grams.all == 0) continue;
        const double worth = static_cast<double>(texts.size()) / static_cast<double>(grams.all * k[b]);
        for (size_t i = 0; i < texts.size(); ++i) part[b][slots[i]] = static_cast<double>(grams.fresh[i]) * worth;
      }
    });
    return parts.to(counted_on_device.device(), answers.confidence.scalar_type());
  }

  Options options_;
};

}  // namespace

void register_distinct_n(Registry<Reward>& registry) {
  add_reward<DistinctN>(registry, "distinct_n", "different word n-grams of the answers, as a share of all");
}

}  // namespace plural
