// SPDX-License-Identifier: Apache-2.0
#include "lib/eval/reference_eval.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>
#include <utility>

#include "lib/text/answer_parser.h"
#include "lib/text/normal_form.h"

namespace plural {
namespace {

std::string_view cut(std::string_view text, Span span) {
  return text.substr(static_cast<size_t>(span.begin), static_cast<size_t>(span.end - span.begin));
}

/// The digits of a numbered tag as written.
std::string_view digits_of(std::string_view text, const Tag& tag) {
  const auto skip = static_cast<int64_t>(
      (tag.kind == TagKind::kAnswer ? std::string_view("answer") : "confidence").size());
  return cut(text, {tag.begin + 1 + (tag.closing ? 1 : 0) + skip, tag.end - 1});
}

int64_t value_of(std::string_view digits) {
  int64_t value = 0;
  for (char c : digits) value = std::min<int64_t>(value * 10 + (c - '0'), int64_t{1} << 40);
  return value;
}

/// The tags after the think text.
std::vector<Tag> body_tags(std::string_view text) {
  std::vector<Tag> tags;
  TagScanner scanner(text, body_begin(text));
  while (const std::optional<Tag> tag = scanner.next()) tags.push_back(*tag);
  return tags;
}

/// The first block of each number from 1: a block runs to the closing tag with the same digits, and blocks of one kind
/// do not overlap.
std::map<int64_t, std::string_view> numbered_blocks(std::string_view text, std::span<const Tag> tags, TagKind kind) {
  std::map<std::string_view, std::vector<const Tag*>> closings;
  for (const Tag& tag : tags)
    if (tag.kind == kind && tag.number != 0 && tag.closing) closings[digits_of(text, tag)].push_back(&tag);
  std::map<int64_t, std::string_view> blocks;
  int64_t free_from = 0;
  for (const Tag& tag : tags) {
    if (tag.kind != kind || tag.number == 0 || tag.closing || tag.begin < free_from) continue;
    const std::string_view digits = digits_of(text, tag);
    const auto found = closings.find(digits);
    if (found == closings.end()) continue;
    const auto closing = std::lower_bound(found->second.begin(), found->second.end(), tag.end,
                                          [](const Tag* other, int64_t end) { return other->begin < end; });
    if (closing == found->second.end()) continue;
    free_from = (*closing)->end;
    if (const int64_t number = value_of(digits); number >= 1)
      blocks.emplace(number, trim(cut(text, {tag.end, (*closing)->begin})));
  }
  return blocks;
}

/// The text of a block `<name>text</name>`; nullopt where it holds a '<', and so is no number. Looking for that first
/// reads blocks that lie around one another once, and not once for each of them.
std::optional<std::string_view> plain_text(std::string_view completion, Span block) {
  const std::string_view tagged = cut(completion, block);
  const size_t begin = tagged.find('>') + 1, end = tagged.size() - begin - 1;  // a closing tag is longer by its slash
  return tagged.find('<', begin) == end ? std::optional(tagged.substr(begin, end - begin)) : std::nullopt;
}

}  // namespace

std::optional<double> parse_stated_probability(std::string_view text) {
  const std::string_view trimmed = trim(text);
  if (!trimmed.empty() && trimmed.back() == '%') {
    const auto percent = parse_number(trimmed.substr(0, trimmed.size() - 1));
    if (percent && *percent >= 0 && *percent <= 100) return *percent / 100;
    return std::nullopt;
  }
  const auto value = parse_number(trimmed);
  return value && *value >= 0 && *value <= 1 ? value : std::nullopt;
}

AnswerSet parse_for_evaluation(const AnswerFormat& format, std::string_view completion, int64_t k) {
  AnswerSet set = format.parse(completion, k);
  set.lone_confidences.clear();
  for (Answer& answer : set.answers) {
    if (!format.has_confidences()) {
      answer.confidence = std::numeric_limits<double>::quiet_NaN();
      answer.has_confidence = false;
      answer.confidence_bytes = {};
    } else if (std::isnan(answer.confidence) && answer.has_confidence) {
      if (const auto text = plain_text(completion, answer.confidence_bytes))
        answer.confidence = parse_stated_probability(*text).value_or(answer.confidence);
    }
  }
  return set;
}

std::optional<double> read_plain_confidence(std::string_view completion) {
  const TagIndex index(completion, 0);
  const Block& block = index.block(TagKind::kConfidence, 0);
  return block.found ? parse_stated_probability(cut(completion, block.last_text)) : std::nullopt;
}

std::optional<std::string> read_plain_answer(std::string_view completion) {
  const TagIndex index(completion, 0);
  const Block& block = index.block(TagKind::kAnswer, 0);
  if (!block.found) return std::nullopt;
  return std::string(trim(cut(completion, block.last_text)));
}

std::optional<std::vector<ReferenceCandidate>> read_numbered(std::string_view completion, int64_t k) {
  const std::vector<Tag> tags = body_tags(completion);
  const auto answers = numbered_blocks(completion, tags, TagKind::kAnswer);
  const auto confidences = numbered_blocks(completion, tags, TagKind::kConfidence);
  if (answers.empty()) return std::nullopt;
  // A huge number must not cost memory when nobody said how many there should be.
  const int64_t seen = std::min(answers.rbegin()->first, static_cast<int64_t>(tags.size()));
  std::vector<ReferenceCandidate> candidates(static_cast<size_t>(k >= 1 ? k : seen));
  for (const auto& [number, text] : answers)
    if (number <= static_cast<int64_t>(candidates.size()))
      candidates[static_cast<size_t>(number - 1)].text = std::string(text);
  for (size_t i = 0; i < candidates.size(); ++i)
    if (const auto found = confidences.find(static_cast<int64_t>(i + 1)); found != confidences.end())
      candidates[i].confidence = parse_stated_probability(found->second);
  return candidates;
}

bool matches_any(std::string_view candidate, std::span<const std::string> gold, NormalForm form) {
  const std::string normal = form(candidate);
  return !normal.empty() &&
         std::any_of(gold.begin(), gold.end(), [&](const std::string& text) { return form(text) == normal; });
}

Forecasts rank_candidates(std::span<const ReferenceCandidate> candidates, bool by_confidence,
                          const std::function<bool(std::string_view text)>& correct) {
  std::vector<size_t> order(candidates.size());
  std::iota(order.begin(), order.end(), size_t{0});
  if (by_confidence)
    std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
      return candidates[a].confidence.value_or(-1.0) > candidates[b].confidence.value_or(-1.0);
    });
  Forecasts ranked;
  for (size_t i : order) {
    ranked.confidence.push_back(candidates[i].confidence.value_or(0.0));
    ranked.correct.push_back(correct(candidates[i].text) ? 1.0 : 0.0);
  }
  return ranked;
}

}  // namespace plural
