// SPDX-License-Identifier: Apache-2.0
#include "rewards/diversity_support.h"

#include <unordered_map>

#include "lib/text/normal_form.h"
#include "plural/error.h"

namespace plural::rewards {

Tensor text_keys(const AnswerBatch& answers, const Tensor& counted, bool word_sets) {
  Tensor keys = at::full({answers.rows, answers.slots}, -1, at::kLong);
  auto key = keys.accessor<int64_t, 2>();
  std::unordered_map<std::string, int64_t> numbers;
  for (int64_t b = 0; b < answers.rows; ++b) {
    numbers.clear();
    const std::vector<Answer>& set = answers.sets[static_cast<size_t>(b)].answers;
    for (size_t i = 0; i < set.size(); ++i) {
      const std::string& text = word_sets ? word_set_key(set[i].text) : set[i].normal;
      if (!text.empty())
        key[b][static_cast<int64_t>(i)] = numbers.emplace(text, static_cast<int64_t>(numbers.size())).first->second;
    }
  }
  return keys.to(counted.device()).masked_fill(counted.logical_not(), -1);
}

Tensor first_of_its_kind(const Tensor& alike) {
  return alike.diagonal(0, 1, 2).logical_and(alike.tril(-1).any(2).logical_not());
}

Tensor pair_distance_parts(const Tensor& similarity, const Tensor& k) {
  const Tensor is_answer = similarity.diagonal(0, 1, 2).gt(0.5);
  const Tensor is_pair = is_answer.unsqueeze(1).logical_and(is_answer.unsqueeze(2)).tril(-1);
  const Tensor distance = (1 - similarity.clamp(0, 1)) * is_pair;
  const Tensor pairs = (k * (k - 1)).clamp_min(1).unsqueeze(1);  // twice the number: a pair is shared by two
  return (distance.sum(1) + distance.sum(2)) / pairs;
}

const Embedder& AnswerSimilarity::embedder(const RewardInput& input) const {
  if (embedder_) return *embedder_;
  if (input.policy_embedder) return *input.policy_embedder;
  throw InputError(
      "a reward compares answers by `embedder: policy`, but there is no policy here; such a reward can be used in "
      "training only: name another embedder (char_ngrams, minilm), or give RewardInput a policy_embedder");
}

Tensor AnswerSimilarity::of(const RewardInput& input, const Tensor& counted) const {
  const AnswerBatch& answers = input.answers;
  const at::Device device = counted.device();
  std::vector<std::string_view> texts;
  std::unordered_map<std::string_view, int64_t> places;
  places.reserve(static_cast<size_t>(answers.rows * answers.slots));
  Tensor index = at::full({answers.rows, answers.slots}, -1, at::kLong);
  auto place = index.accessor<int64_t, 2>();
  for (int64_t b = 0; b < answers.rows; ++b) {
    const std::vector<Answer>& set = answers.sets[static_cast<size_t>(b)].answers;
    for (size_t i = 0; i < set.size(); ++i) {
      if (set[i].normal.empty()) continue;
      const auto [it, is_new] = places.try_emplace(set[i].normal, static_cast<int64_t>(texts.size()));
      if (is_new) texts.push_back(it->first);
      place[b][static_cast<int64_t>(i)] = it->second;
    }
  }
  return embedder(input).similarities(texts, index.to(device).masked_fill(counted.logical_not(), -1));
}

}  // namespace plural::rewards
