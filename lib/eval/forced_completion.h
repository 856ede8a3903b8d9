// SPDX-License-Identifier: Apache-2.0
// Forced completion: a completion that left something out is continued greedily after a fixed phrase, and what comes
// is appended to it as the missing block (spec/official_rewards.md 7.10 a and b). Verdicts on the format stay those of
// the completion as the model wrote it.
#pragma once

#include <optional>
#include <span>
#include <string_view>

#include "lib/eval/set_sampling.h"

namespace plural::eval {

/// Answers for completions that hold none: at most 50 tokens after "Final answer:", up to a line break or a tag.
void force_answers(const AskParts& parts, const AskOptions& options, std::span<SampledSet> sets);

/// Confidences for answers without one in [0, 1]: at most 20 tokens after a phrase that names the answer and asks on a
/// scale from 0 to 100. What is no such number leaves the confidence missing.
void force_confidences(const AskParts& parts, const AskOptions& options, std::span<SampledSet> sets);

/// Both, for sets that were drawn without: answers first, then the confidences, those of forced answers too. In a
/// format without confidences only the answers.
void force_all(const AskParts& parts, const AskOptions& options, std::span<SampledSet> sets);

/// "85", "85%", "85.", "85 out of 100" are 0.85: the first word, without a percent sign or a closing full stop, is one
/// ASCII number in [0, 100]. nullopt for anything else.
std::optional<double> read_percentage(std::string_view text);

}  // namespace plural::eval
