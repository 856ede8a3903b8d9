// SPDX-License-Identifier: Apache-2.0
#include "rewards/reward_support.h"

#include "lib/core/format.h"
#include "plural/error.h"

namespace plural::rewards {

Tensor answers_differ(const AnswerBatch& answers) {
  // Empty normal forms have no key; they are all the same answer.
  const Tensor nameless = answers.present.logical_and(answers.key.lt(0)).any(1).to(at::kLong);
  return (answers.first_of_key().sum(1) + nameless).eq(answers.k);
}

Tensor all_distinct(const AnswerBatch& answers) {
  if (answers.single_answer) return at::ones_like(answers.format_ok);
  return answers.extracted.logical_and(answers_differ(answers));
}

Tensor confidences_usable(const AnswerBatch& answers) {
  return answers.paired.logical_and(answers.confidence_ok.logical_or(asked(answers).logical_not()).all(1));
}

Tensor sum_at_most_one(const AnswerBatch& answers) { return answers.confidence.to(at::kDouble).sum(1).le(1.0 + 1e-6); }

Tensor first_correct(const AnswerBatch& answers) {
  const Tensor correct = answers.correct();
  return correct * correct.cumsum(1).eq(1);
}

Tensor rank_order(const AnswerBatch& answers) {
  if (!answers.has_confidences || answers.single_answer)
    return at::arange(answers.slots, answers.k.options()).unsqueeze(0).expand({answers.rows, answers.slots});
  // Slots past k must come last, after a stated 0.
  const Tensor sort_key = answers.confidence.masked_fill(asked(answers).logical_not(), -1.0);
  return at::argsort(sort_key, /*stable=*/true, /*dim=*/1, /*descending=*/true);
}

Tensor pass_at(const AnswerBatch& answers, int64_t i) {
  PLURAL_CHECK(i >= 1, fmt::format("pass@i needs i >= 1, got {}", i));
  const Tensor ranked = answers.correct().gather(1, rank_order(answers)).narrow(1, 0, std::min(i, answers.slots));
  return ranked.amax(1) * answers.format_ok;
}

Tensor num_correct_at(const AnswerBatch& answers, int64_t i) {
  PLURAL_CHECK(i >= 1, fmt::format("num_correct@i needs i >= 1, got {}", i));
  const Tensor order = rank_order(answers);
  AnswerBatch ranked = answers;
  ranked.key = answers.key.gather(1, order);
  const Tensor counted = answers.correct().gather(1, order) * ranked.first_of_key();
  return counted.narrow(1, 0, std::min(i, answers.slots)).sum(1) * answers.format_ok;
}

}  // namespace plural::rewards
