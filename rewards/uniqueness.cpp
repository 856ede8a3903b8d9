// SPDX-License-Identifier: Apache-2.0
#include "rewards/reward_support.h"

namespace plural {
namespace {

/// Whether, or how much, the answers differ from each other.
class Uniqueness final : public Reward {
 public:
  struct Options {
    std::string mode = "all";
    template <class V>
    void fields(V& v) {
      v.field("mode", mode, one_of({"all", "share"}),
              "all: 1 if all K answers are there and differ, else 0; share: distinct answers / K");
    }
  };

  explicit Uniqueness(Options options) : options_(std::move(options)) {}
  std::string name() const override { return "uniqueness"; }
  std::string formula() const override {
    return options_.mode == "all" ? "1 if all K answers are there and differ" : "distinct answers / K";
  }

  RewardOutput score(const RewardInput& input) const override {
    RewardOutput out;
    if (options_.mode == "all") {
      out.row = rewards::all_distinct(input.answers).to(input.answers.confidence.scalar_type());
    } else {
      out.per_answer = share(input.answers);
      out.row = out.per_answer.sum(1);
    }
    return out;
  }

  Tensor score_subset(const RewardInput& input, const Tensor& keep) const override {
    if (options_.mode == "all") return {};  // a verdict on the whole set
    return share(input.answers.keep(keep)).sum(1);
  }

 private:
  // [B, K]: 1/K for the first slot of each answer.
  static Tensor share(const AnswerBatch& answers) {
    return answers.first_of_key() / rewards::asked_count(answers).unsqueeze(1);
  }

  Options options_;
};

}  // namespace

void register_uniqueness(Registry<Reward>& registry) {
  add_reward<Uniqueness>(registry, "uniqueness", "whether the answers of the set differ");
}

}  // namespace plural
