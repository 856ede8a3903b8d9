// SPDX-License-Identifier: Apache-2.0
// What the bundled rewards share. A reward is one file: an options struct, a class, and register_<name>().
#pragma once

#include <ATen/ATen.h>

#include <memory>
#include <string>

#include "plural/reward.h"

namespace plural {

/// Options of a reward that has none.
struct NoOptions {
  template <class V>
  void fields(V&) {}
};

/// Adds reward class R, whose constructor takes R::Options, to the registry.
template <class R>
void add_reward(Registry<Reward>& registry, const std::string& name, const std::string& help) {
  typename R::Options defaults;
  ConfigDescriber describer;
  defaults.fields(describer);
  registry.add(
      name, help,
      [](const ConfigNode& options) -> std::unique_ptr<Reward> {
        return std::make_unique<R>(read_options<typename R::Options>(options));
      },
      describer.docs());
}

namespace rewards {

/// [B, K] bool: the slots that the row was asked for.
inline Tensor asked(const AnswerBatch& answers) {
  return at::arange(answers.slots, answers.k.options()).unsqueeze(0).lt(answers.k.unsqueeze(1));
}

/// k as [B] in the dtype of the confidences.
inline Tensor asked_count(const AnswerBatch& answers) { return answers.k.to(answers.confidence.scalar_type()); }

/// [B] bool: all k answers are there, each once (with a confidence each where the format asks for them), and all have
/// different normal forms. Formats of one answer pass.
Tensor all_distinct(const AnswerBatch& answers);

/// [B] bool: every asked slot has an answer and a confidence in [0, 1], and no numbered tag is repeated.
Tensor confidences_usable(const AnswerBatch& answers);

/// [B] bool: the k answers have different normal forms (spec 4.4; no look at the format).
Tensor answers_differ(const AnswerBatch& answers);

/// [B] bool: the confidences add up to at most 1 + 1e-6.
Tensor sum_at_most_one(const AnswerBatch& answers);

/// [B, K] in the dtype of the confidences: 1 at the first correct slot of each row.
Tensor first_correct(const AnswerBatch& answers);

/// [B, K] int64: slots by falling confidence, ties in order; in the given order for formats without confidences.
Tensor rank_order(const AnswerBatch& answers);

/// [B]: any of the first `i` ranked answers is correct, 0 where the format is broken.
Tensor pass_at(const AnswerBatch& answers, int64_t i);

/// [B]: distinct correct answers among the first `i` ranked ones, 0 where the format is broken.
Tensor num_correct_at(const AnswerBatch& answers, int64_t i);

}  // namespace rewards
}  // namespace plural
