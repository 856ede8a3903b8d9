// SPDX-License-Identifier: Apache-2.0
// A reward in a shared library, for `plugins:` in the YAML of `plural train` and `plural score`.
#include <ATen/ATen.h>
#include <plural/plugin.h>

#include <algorithm>
#include <memory>
#include <string>

namespace {

struct BrevityOptions {
  int64_t free_words = 1;

  template <class V>
  void fields(V& v) {
    v.field("free_words", free_words, plural::at_least(1), "words that cost nothing");
  }
};

/// Pays each answer free_words / max(free_words, its words), over K.
class Brevity final : public plural::Reward {
 public:
  explicit Brevity(BrevityOptions options) : options_(options) {}

  std::string name() const override { return "brevity"; }
  std::string formula() const override { return "mean over the answers of free words / max(free words, words)"; }

  plural::RewardOutput score(const plural::RewardInput& input) const override {
    at::Tensor value = at::zeros({input.answers.rows, input.answers.slots});
    for (int64_t b = 0; b < input.answers.rows; ++b) {
      const auto& answers = input.answers.sets[static_cast<size_t>(b)].answers;
      for (size_t k = 0; k < answers.size(); ++k) {
        if (answers[k].normal.empty()) continue;
        const auto words = 1 + std::count(answers[k].normal.begin(), answers[k].normal.end(), ' ');
        value[b][static_cast<int64_t>(k)] = static_cast<double>(options_.free_words) /
                                            static_cast<double>(std::max(options_.free_words, words));
      }
    }
    return {.row = value.to(input.answers.k.device()).sum(1) / input.answers.k};
  }

 private:
  BrevityOptions options_;
};

void add_rewards(plural::Registry<plural::Reward>& registry) {
  registry.add(
      "brevity", "short answers",
      [](const plural::ConfigNode& options) {
        return std::make_unique<Brevity>(plural::read_options<BrevityOptions>(options));
      },
      plural::describe_options<BrevityOptions>());
}

}  // namespace

PLURAL_PLUGIN("brevity", add_rewards)
