// SPDX-License-Identifier: Apache-2.0
// Where answers and confidences stand in their completions: what was written before what, and which token is whose.
#pragma once

#include <limits>

#include "plural/answers.h"

namespace plural {

/// The place of what a completion lacks: after everything.
inline constexpr int64_t kAbsent = std::numeric_limits<int64_t>::max();

/// Order of the spans of a row as they are written, whatever the format: pairs, or answers first and confidences after.
struct SpanOrder {
  Tensor answer;      ///< [B, K] int64: rises with the place of the answer's opening tag; kAbsent when there is none
  Tensor confidence;  ///< [B, K] int64: the same for confidences, on the same scale
};
SpanOrder span_order(const AnswerBatch& answers);

/// [B, K] bool: what stands before slot k's answer (or, `confidence`, before its confidence): answers that are written,
/// and pairs of which answer and confidence both are. Before an absent span stands everything that is there.
struct Before {
  Tensor answers, pairs;
};
Before written_before(const SpanOrder& order, int64_t k, bool confidence);

/// [sum of lengths]: every token gets the value of the span that it lies in, else its row's. A token in two spans (tags
/// that share a token) belongs to the later one: a span owns its opening tag.
struct SpanValues {
  Tensor row;         ///< [B]
  Tensor answer;      ///< [B, K]
  Tensor confidence;  ///< [B, K]
};
Tensor paint_tokens(const AnswerBatch& answers, const SpanOrder& order, const SpanValues& values);

}  // namespace plural
