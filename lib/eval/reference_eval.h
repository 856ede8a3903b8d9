// SPDX-License-Identifier: Apache-2.0
// The evaluation rules of the reference code, corrected (spec/official_rewards.md section 7): more lenient about
// structure than the training formats, so that baselines which break the format are still measured.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "plural/evaluation.h"

namespace plural {

/// A probability: one ASCII number in [0, 1], or one in [0, 100] with a percent sign. nullopt for anything else.
std::optional<double> parse_stated_probability(std::string_view text);

/// A completion as evaluation reads it: what `format` finds, and as confidence of each answer the probability that
/// parse_stated_probability reads in its block, where training wants a number in [0, 1]. The verdicts (format_ok,
/// blocks_ok, problem) stay those of training. In a format without confidences no answer has one, and confidences
/// without an answer are left out. Total and linear, as AnswerFormat::parse.
AnswerSet parse_for_evaluation(const AnswerFormat& format, std::string_view completion, int64_t k);

/// The last un-numbered confidence block after the think text.
std::optional<double> read_plain_confidence(std::string_view completion);
/// The last un-numbered answer block after the think text, trimmed.
std::optional<std::string> read_plain_answer(std::string_view completion);

/// One answer of a set; text "" = no block with this number.
struct ReferenceCandidate {
  std::string text;
  std::optional<double> confidence;
};
/// Numbered blocks 1..k after the think text, the first of each number ("01" is 1); nullopt when no answer has a
/// number. Numbers left out have empty texts. `k` < 1: up to the largest number there is.
std::optional<std::vector<ReferenceCandidate>> read_numbered(std::string_view completion, int64_t k);

using NormalForm = std::string (*)(std::string_view text);

/// Equal normal forms with any gold; empty ones match nothing.
bool matches_any(std::string_view candidate, std::span<const std::string> gold, NormalForm form = normal_form);

/// Candidates as forecasts, a missing confidence as 0, in rank order: by falling confidence (missing ones last)
/// where `by_confidence`, else as numbered. `correct` is asked about each text.
Forecasts rank_candidates(std::span<const ReferenceCandidate> candidates, bool by_confidence,
                          const std::function<bool(std::string_view text)>& correct);

}  // namespace plural
