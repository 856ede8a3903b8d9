// SPDX-License-Identifier: Apache-2.0
#include <ATen/Parallel.h>

#include "lib/core/format.h"
#include "lib/text/normal_form.h"
#include "lib/text/words.h"
#include "rewards/diversity_support.h"

namespace plural {
namespace {

/// Mean over the pairs of answers of 1 - |A and B| / |A or B|, A and B their sets of words.
class JaccardDistance final : public Reward {
 public:
  struct Options {
    bool correct_only = false;
    template <class V>
    void fields(V& v) {
      v.field("correct_only", correct_only, any_value(), rewards::kCorrectOnlyHelp);
    }
  };

  explicit JaccardDistance(Options options) : options_(options) {}
  std::string name() const override { return "jaccard_distance"; }
  std::string formula() const override {
    return fmt::format("mean over pairs of {}answers of 1 - shared words / all words",
                       options_.correct_only ? "correct " : "");
  }

  RewardOutput score(const RewardInput& input) const override {
    RewardOutput out;
    out.per_answer = earned(input.answers, rewards::counted_slots(input.answers, options_.correct_only));
    out.row = out.per_answer.sum(1);
    out.valid = input.answers.k.gt(1);  // one answer has no pairs
    return out;
  }

  Tensor score_subset(const RewardInput& input, const Tensor& keep) const override {
    return earned(input.answers, rewards::counted_slots(input.answers, options_.correct_only).logical_and(keep)).sum(1);
  }

 private:
  static Tensor earned(const AnswerBatch& answers, const Tensor& counted) {
    const Tensor both = counted.unsqueeze(1).logical_and(counted.unsqueeze(2));
    return rewards::pair_distance_parts(similarity(answers).to(counted.device()) * both, answers.k)
        .to(answers.confidence.scalar_type());
  }

  // [B, K, K] float64 on the host, 0 for slots without words. Host work on every pair of every row.
  static Tensor similarity(const AnswerBatch& answers) {
    Tensor result = at::zeros({answers.rows, answers.slots, answers.slots}, at::kDouble);
    auto out = result.accessor<double, 3>();
    at::parallel_for(0, answers.rows, /*grain_size=*/64, [&](int64_t begin, int64_t end) {
      for (int64_t b = begin; b < end; ++b) {
        const std::vector<Answer>& set = answers.sets[static_cast<size_t>(b)].answers;
        std::vector<std::string> keys(set.size());
        std::vector<std::vector<std::string_view>> words(set.size());  // sorted, without repeats
        for (size_t i = 0; i < set.size(); ++i) {
          keys[i] = word_set_key(set[i].text);
          words[i] = split_words(keys[i]);
        }
        for (size_t i = 0; i < set.size(); ++i)
          for (size_t j = 0; j <= i; ++j) {
            if (words[i].empty() || words[j].empty()) continue;
            const auto row = static_cast<int64_t>(i), column = static_cast<int64_t>(j);
            out[b][row][column] = out[b][column][row] = jaccard(words[i], words[j]);
          }
      }
    });
    return result;
  }

  Options options_;
};

}  // namespace

void register_jaccard_distance(Registry<Reward>& registry) {
  add_reward<JaccardDistance>(registry, "jaccard_distance", "mean pairwise distance of the answers' sets of words");
}

}  // namespace plural
