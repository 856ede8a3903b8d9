// SPDX-License-Identifier: Apache-2.0
#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <string>
#include <unordered_map>

#include "lib/core/format.h"
#include "plural/answers.h"
#include "plural/error.h"

namespace plural {
namespace {

/// Byte offsets of the tokens of a completion: token i covers [offsets[i], offsets[i+1]). Special tokens are not part
/// of the text, so they cover nothing.
std::vector<int64_t> token_offsets(const Tokenizer& tokenizer, std::span<const TokenId> ids) {
  std::vector<int64_t> offsets(ids.size() + 1, 0);
  for (size_t i = 0; i < ids.size(); ++i) {
    const int64_t bytes = tokenizer.is_special(ids[i]) ? 0 : static_cast<int64_t>(tokenizer.token_bytes(ids[i]).size());
    offsets[i + 1] = offsets[i] + bytes;
  }
  return offsets;
}

Span span_of_bytes(const std::vector<int64_t>& offsets, Span bytes) {
  if (bytes.empty() || bytes.begin >= offsets.back()) return {};
  // The first token that ends after the first byte, and the first that begins at or after the end.
  const auto first = std::upper_bound(offsets.begin() + 1, offsets.end(), bytes.begin) - (offsets.begin() + 1);
  const auto last = std::lower_bound(offsets.begin(), offsets.end() - 1, bytes.end) - offsets.begin();
  return {first, last};
}

/// Completions that a thread reads at a time: a few tens of microseconds of work.
constexpr int64_t kRowsAtATime = 8;

constexpr double kNone = std::numeric_limits<double>::quiet_NaN();

/// NaN stays NaN.
double clip(double stated) { return std::clamp(stated, 0.0, 1.0); }
/// Clipped to [0, 1]; 0 for NaN.
double probability(double stated) { return std::isnan(stated) ? 0.0 : clip(stated); }

/// Examples whose gold answers a thread reads at a time.
constexpr int64_t kExamplesAtATime = 4;

/// The gold answers of an example as a matcher tells them apart.
struct GoldTable {
  std::vector<int64_t> owner;  ///< Matcher::gold_owners
  std::vector<double> weight;  ///< of all that an owner stands for, summing to 1 over the owners; 0 for others
  int64_t count = 0;           ///< owners

  /// A matcher's verdict as the gold answer that stands for it.
  int64_t hit(int64_t verdict) const {
    if (verdict < 0) return -1;
    PLURAL_CHECK(static_cast<size_t>(verdict) < owner.size(), "a matcher names one of the gold answers");
    return owner[static_cast<size_t>(verdict)] >= 0 ? owner[static_cast<size_t>(verdict)] : verdict;
  }
};

GoldTable make_gold_table(const Example& example, std::vector<int64_t> owners) {
  GoldTable table;
  table.owner = std::move(owners);
  PLURAL_CHECK(table.owner.size() == example.gold.size(), "a matcher names an owner for each gold answer");
  table.weight.resize(table.owner.size(), 0);
  std::vector<bool> owns(table.owner.size(), false);
  double sum = 0;
  for (size_t i = 0; i < table.owner.size(); ++i) {
    if (table.owner[i] < 0) continue;
    const auto owner = static_cast<size_t>(table.owner[i]);
    PLURAL_CHECK(owner < owns.size(), "the owner of a gold answer is one of them");
    owns[owner] = true;
    table.weight[owner] += example.gold[i].weight;
    sum += example.gold[i].weight;
  }
  table.count = std::count(owns.begin(), owns.end(), true);
  for (size_t i = 0; i < owns.size(); ++i)
    if (owns[i]) table.weight[i] = sum > 0 ? table.weight[i] / sum : 1.0 / static_cast<double>(table.count);
  return table;
}

/// The tables of the examples that occur, each made once. Takes the owners out of `verdicts`.
std::unordered_map<const Example*, GoldTable> read_gold(std::span<const CompletionView> completions,
                                                        const Matcher& matcher, MatchVerdicts& verdicts) {
  std::unordered_map<const Example*, GoldTable> tables;
  for (const CompletionView& view : completions) tables[view.example];
  std::vector<std::pair<const Example* const, GoldTable>*> entries;
  entries.reserve(tables.size());
  for (auto& entry : tables) entries.push_back(&entry);
  at::parallel_for(0, static_cast<int64_t>(entries.size()), kExamplesAtATime, [&](int64_t begin, int64_t end) {
    for (auto i = static_cast<size_t>(begin); i < static_cast<size_t>(end); ++i) {
      const Example& example = *entries[i]->first;
      const auto known = verdicts.owners.find(&example);
      entries[i]->second = make_gold_table(
          example, known != verdicts.owners.end() ? std::move(known->second) : matcher.gold_owners(example));
    }
  });
  return tables;
}

/// Ids 0, 1, ... of the distinct names in the order in which they first occur; -1 for the empty one.
std::vector<int64_t> number_names(std::span<const std::string> names) {
  std::vector<size_t> order(names.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(),
            [&](size_t a, size_t b) { return names[a] != names[b] ? names[a] < names[b] : a < b; });
  std::vector<size_t> first(names.size());  // place of the first equal name
  for (size_t i = 0; i < order.size(); ++i)
    first[order[i]] = i > 0 && names[order[i]] == names[order[i - 1]] ? first[order[i - 1]] : order[i];
  std::vector<int64_t> ids(names.size(), -1);
  int64_t count = 0;
  for (size_t i = 0; i < names.size(); ++i)
    if (!names[i].empty()) ids[i] = first[i] == i ? count++ : ids[first[i]];
  return ids;
}

/// True where an earlier slot of the row has the same id: [B, K] from [B, K] int64. Negative ids count too.
Tensor seen_before(const Tensor& ids) {
  const Tensor equal = ids.unsqueeze(2).eq(ids.unsqueeze(1));  // [B, K, K]
  return equal.tril(-1).any(2);
}

}  // namespace

Span token_span(const Tokenizer& tokenizer, std::span<const TokenId> ids, Span bytes) {
  return span_of_bytes(token_offsets(tokenizer, ids), bytes);
}

Tensor AnswerBatch::correct() const { return match.ge(0).to(confidence.scalar_type()); }

Tensor AnswerBatch::first_hit() const {
  return match.ge(0).logical_and(seen_before(match).logical_not()).to(confidence.scalar_type());
}

Tensor AnswerBatch::first_of_key() const { return key.ge(0).logical_and(seen_before(key).logical_not()); }

AnswerBatch AnswerBatch::keep(const Tensor& keep) const {
  check_shapes({{"keep", keep, "B K"}, {"present", present, "B K"}});
  AnswerBatch kept = *this;
  for (Tensor AnswerBatch::*field :
       {&AnswerBatch::present, &AnswerBatch::confidence_stated, &AnswerBatch::confidence_ok})
    kept.*field = (this->*field).logical_and(keep);
  for (Tensor AnswerBatch::*field : {&AnswerBatch::match, &AnswerBatch::key})
    kept.*field = (this->*field).masked_fill(keep.logical_not(), -1);
  kept.confidence = confidence * keep;
  if (numbered_confidence.defined())
    kept.numbered_confidence = numbered_confidence.masked_fill(keep.logical_not(), kNone);
  return kept;
}

AnswerBatch AnswerBatch::to(at::Device device) const {
  AnswerBatch moved = *this;
  for (Tensor AnswerBatch::*field : {&AnswerBatch::present,
                                     &AnswerBatch::match,
                                     &AnswerBatch::key,
                                     &AnswerBatch::confidence,
                                     &AnswerBatch::confidence_stated,
                                     &AnswerBatch::confidence_ok,
                                     &AnswerBatch::numbered_confidence,
                                     &AnswerBatch::overall_confidence,
                                     &AnswerBatch::overall_confidence_stated,
                                     &AnswerBatch::has_overall_confidence,
                                     &AnswerBatch::format_ok,
                                     &AnswerBatch::blocks_ok,
                                     &AnswerBatch::extracted,
                                     &AnswerBatch::paired,
                                     &AnswerBatch::k,
                                     &AnswerBatch::gold_count,
                                     &AnswerBatch::gold_weight,
                                     &AnswerBatch::answer_span,
                                     &AnswerBatch::confidence_span,
                                     &AnswerBatch::length})
    if ((moved.*field).defined()) moved.*field = (moved.*field).to(device);
  return moved;
}

AnswerBatch build_answer_batch(std::span<const CompletionView> completions, const AnswerFormat& format,
                               const Matcher& matcher, const Tokenizer* tokenizer, at::Device device,
                               at::ScalarType dtype, const std::stop_token& stop) {
  PLURAL_CHECK(dtype == at::kFloat || dtype == at::kDouble, "confidences are float32 or float64");
  const auto rows = static_cast<int64_t>(completions.size());
  int64_t slots = 1, gold_slots = 1;
  for (const CompletionView& view : completions) {
    PLURAL_CHECK(view.example != nullptr, "a completion needs its example");
    PLURAL_CHECK(view.k >= 1, fmt::format("a set needs at least 1 answer, got k = {}", view.k));
    slots = std::max(slots, format.single() ? int64_t{1} : view.k);
    gold_slots = std::max(gold_slots, static_cast<int64_t>(view.example->gold.size()));
  }

  AnswerBatch batch;
  batch.rows = rows;
  batch.slots = slots;
  batch.single_answer = format.single();
  batch.has_confidences = format.has_confidences();
  batch.present = at::zeros({rows, slots}, at::kBool);
  batch.match = at::full({rows, slots}, -1, at::kLong);
  batch.key = at::full({rows, slots}, -1, at::kLong);
  batch.confidence = at::zeros({rows, slots}, at::kDouble);
  batch.confidence_stated = at::zeros({rows, slots}, at::kBool);
  batch.confidence_ok = at::zeros({rows, slots}, at::kBool);
  batch.numbered_confidence = at::full({rows, slots}, kNone, at::kDouble);
  batch.overall_confidence = at::zeros({rows}, at::kDouble);
  batch.overall_confidence_stated = at::zeros({rows}, at::kBool);
  batch.has_overall_confidence = at::zeros({rows}, at::kBool);
  batch.format_ok = at::zeros({rows}, at::kBool);
  batch.blocks_ok = at::zeros({rows}, at::kDouble);
  batch.extracted = at::zeros({rows}, at::kBool);
  batch.paired = at::zeros({rows}, at::kBool);
  batch.k = at::zeros({rows}, at::kLong);
  batch.gold_count = at::zeros({rows}, at::kLong);
  batch.gold_weight = at::zeros({rows, gold_slots}, dtype);  // the largest of all: no copy in another dtype
  batch.answer_span = at::zeros({rows, slots, 2}, at::kLong);
  batch.confidence_span = at::zeros({rows, slots, 2}, at::kLong);
  batch.length = at::zeros({rows}, at::kLong);
  batch.sets.resize(completions.size());

  auto present = batch.present.accessor<bool, 2>();
  auto match = batch.match.accessor<int64_t, 2>();
  auto key = batch.key.accessor<int64_t, 2>();
  auto confidence = batch.confidence.accessor<double, 2>();
  auto confidence_stated = batch.confidence_stated.accessor<bool, 2>();
  auto confidence_ok = batch.confidence_ok.accessor<bool, 2>();
  auto numbered_confidence = batch.numbered_confidence.accessor<double, 2>();
  auto overall_confidence = batch.overall_confidence.accessor<double, 1>();
  auto overall_confidence_stated = batch.overall_confidence_stated.accessor<bool, 1>();
  auto has_overall_confidence = batch.has_overall_confidence.accessor<bool, 1>();
  auto format_ok = batch.format_ok.accessor<bool, 1>();
  auto blocks_ok = batch.blocks_ok.accessor<double, 1>();
  auto extracted = batch.extracted.accessor<bool, 1>();
  auto paired = batch.paired.accessor<bool, 1>();
  auto k = batch.k.accessor<int64_t, 1>();
  auto gold_count = batch.gold_count.accessor<int64_t, 1>();
  auto answer_span = batch.answer_span.accessor<int64_t, 3>();
  auto confidence_span = batch.confidence_span.accessor<int64_t, 3>();
  auto length = batch.length.accessor<int64_t, 1>();

  at::parallel_for(0, rows, kRowsAtATime, [&](int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; ++b) {
      const CompletionView& view = completions[static_cast<size_t>(b)];
      batch.sets[static_cast<size_t>(b)] = format.parse(view.text, view.k);
    }
  });
  // All questions at once, and from this thread: a matcher may hand them to worker processes.
  std::vector<MatchQuestion> questions;  // in the order in which the slots are filled
  std::vector<size_t> first_question;    // [B]
  questions.reserve(static_cast<size_t>(rows * slots));
  first_question.reserve(static_cast<size_t>(rows));
  for (size_t b = 0; b < batch.sets.size(); ++b) {
    first_question.push_back(questions.size());
    for (const Answer& answer : batch.sets[b].answers)
      if (!answer.answer_bytes.empty()) questions.push_back({&answer, completions[b].example});
  }
  MatchVerdicts verdicts = matcher.match_all(questions, stop);
  if (stop.stop_requested()) throw Interrupted("asked to stop while answers were being matched");
  PLURAL_CHECK(verdicts.gold.size() == questions.size(), "a matcher answers every question");
  const std::unordered_map<const Example*, GoldTable> gold = read_gold(completions, matcher, verdicts);

  const auto fill_row = [&](int64_t b) {
    const CompletionView& view = completions[static_cast<size_t>(b)];
    const GoldTable& own_gold = gold.at(view.example);
    const AnswerSet& set = batch.sets[static_cast<size_t>(b)];
    has_overall_confidence[b] = set.has_overall_confidence;
    overall_confidence_stated[b] = !std::isnan(set.overall_confidence);
    overall_confidence[b] = probability(set.overall_confidence);
    format_ok[b] = set.format_ok;
    blocks_ok[b] = set.blocks_needed > 0 ? static_cast<double>(set.blocks_ok) / static_cast<double>(set.blocks_needed)
                                         : static_cast<double>(set.format_ok);
    extracted[b] = set.extracted;
    paired[b] = set.paired;
    k[b] = format.single() ? 1 : view.k;
    gold_count[b] = own_gold.count;
    length[b] = static_cast<int64_t>(view.ids.size());
    if (dtype == at::kDouble)
      std::copy(own_gold.weight.begin(), own_gold.weight.end(), batch.gold_weight.data_ptr<double>() + b * gold_slots);
    else
      std::transform(own_gold.weight.begin(), own_gold.weight.end(),
                     batch.gold_weight.data_ptr<float>() + b * gold_slots,
                     [](double weight) { return static_cast<float>(weight); });

    size_t question = first_question[static_cast<size_t>(b)];
    std::vector<int64_t> offsets;
    if (!view.ids.empty()) {
      PLURAL_CHECK(tokenizer != nullptr, "token spans need a tokenizer");
      offsets = token_offsets(*tokenizer, view.ids);
    }
    std::vector<std::string> names(set.answers.size());
    for (size_t i = 0; i < set.answers.size(); ++i) {
      const Answer& answer = set.answers[i];
      const auto slot = static_cast<int64_t>(i);
      numbered_confidence[b][slot] = clip(answer.confidence);
      if (answer.answer_bytes.empty()) continue;
      present[b][slot] = true;
      match[b][slot] = own_gold.hit(verdicts.gold[question++]);
      names[i] = matcher.key(answer);
      if (names[i].empty() && match[b][slot] >= 0) names[i] = answer.text;  // option A, which an outside matcher knows
      confidence_stated[b][slot] = !std::isnan(answer.confidence);
      confidence_ok[b][slot] = answer.confidence >= 0 && answer.confidence <= 1;
      confidence[b][slot] = probability(answer.confidence);
      if (offsets.empty()) continue;
      const Span answer_tokens = span_of_bytes(offsets, answer.answer_bytes);
      const Span confidence_tokens = span_of_bytes(offsets, answer.confidence_bytes);
      answer_span[b][slot][0] = answer_tokens.begin, answer_span[b][slot][1] = answer_tokens.end;
      confidence_span[b][slot][0] = confidence_tokens.begin, confidence_span[b][slot][1] = confidence_tokens.end;
    }
    const std::vector<int64_t> ids = number_names(names);
    for (size_t i = 0; i < ids.size(); ++i) key[b][static_cast<int64_t>(i)] = ids[i];
    for (size_t i = 0; i < set.lone_confidences.size(); ++i)
      numbered_confidence[b][static_cast<int64_t>(set.answers.size() + i)] = clip(set.lone_confidences[i]);
  };
  at::parallel_for(0, rows, kRowsAtATime, [&](int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; ++b) fill_row(b);
  });
  batch.match_metrics = std::move(verdicts.metrics);
  batch.match_problem = std::move(verdicts.problem);
  batch.confidence = batch.confidence.to(dtype);
  batch.numbered_confidence = batch.numbered_confidence.to(dtype);
  batch.overall_confidence = batch.overall_confidence.to(dtype);
  batch.blocks_ok = batch.blocks_ok.to(dtype);
  return device.is_cpu() ? batch : batch.to(device);
}

}  // namespace plural
