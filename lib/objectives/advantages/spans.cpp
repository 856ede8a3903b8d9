// SPDX-License-Identifier: Apache-2.0
#include "lib/objectives/advantages/spans.h"

#include <ATen/ATen.h>

namespace plural {

namespace {

Tensor written(const Tensor& span) { return span.select(2, 1).gt(span.select(2, 0)); }

// Opening tags that share a token are told apart by their slot, an answer before its confidence.
Tensor order_of(const Tensor& span, int64_t kind) {
  const int64_t slots = span.size(1);
  const Tensor slot = at::arange(slots, span.options()) * 2 + kind;
  return at::where(written(span), span.select(2, 0) * (2 * slots) + slot, at::full({}, kAbsent, span.options()));
}

}  // namespace

SpanOrder span_order(const AnswerBatch& answers) {
  return {order_of(answers.answer_span, 0), order_of(answers.confidence_span, 1)};
}

Before written_before(const SpanOrder& order, int64_t k, bool confidence) {
  const Tensor place = (confidence ? order.confidence : order.answer).select(1, k).unsqueeze(1);
  const Tensor answers = order.answer.lt(place);
  return {answers, answers.logical_and(order.confidence.lt(place))};
}

Tensor paint_tokens(const AnswerBatch& answers, const SpanOrder& order, const SpanValues& values) {
  const Tensor row = at::repeat_interleave(answers.length);
  const Tensor start = answers.length.cumsum(0) - answers.length;
  const Tensor place = at::arange(row.size(0), row.options()) - start.index_select(0, row);
  Tensor painted = values.row.index_select(0, row);
  Tensor latest = at::full_like(place, -1);  // order of the span that owns the token so far
  const auto paint = [&](const Tensor& span, const Tensor& order_of_span, const Tensor& value) {
    const auto of_row = [&](const Tensor& x) { return x.index_select(0, row); };
    const Tensor inside = place.ge(of_row(span.select(1, 0))).logical_and(place.lt(of_row(span.select(1, 1))));
    const Tensor owner = of_row(order_of_span);
    const Tensor takes = inside.logical_and(owner.gt(latest));
    latest = at::where(takes, owner, latest);
    painted = at::where(takes, of_row(value), painted);
  };
  for (int64_t k = 0; k < answers.slots; ++k) {
    paint(answers.answer_span.select(1, k), order.answer.select(1, k), values.answer.select(1, k));
    paint(answers.confidence_span.select(1, k), order.confidence.select(1, k), values.confidence.select(1, k));
  }
  return painted;
}

}  // namespace plural
