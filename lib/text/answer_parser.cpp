// SPDX-License-Identifier: Apache-2.0
#include "lib/text/answer_parser.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "lib/text/normal_form.h"

namespace plural {
namespace {

constexpr int64_t kLargestNumber = 1'000'000'000;
constexpr std::array<std::pair<std::string_view, TagKind>, 4> kNames = {{{"think", TagKind::kThink},
                                                                         {"answer", TagKind::kAnswer},
                                                                         {"confidence", TagKind::kConfidence},
                                                                         {"analysis", TagKind::kAnalysis}}};

/// The number written in `digits`: 0 for none, -1 with leading zeros.
int64_t tag_number(std::string_view digits) {
  if (digits.empty()) return 0;
  if (digits.front() == '0') return -1;
  int64_t number = 0;
  for (char c : digits) number = std::min(number * 10 + (c - '0'), kLargestNumber);
  return number;
}

/// Reads a tag at `at` (the position of '<'); returns false when there is none.
bool read_tag(std::string_view text, size_t at, Tag& tag) {
  size_t next = at + 1;
  tag.closing = next < text.size() && text[next] == '/';
  if (tag.closing) ++next;
  for (const auto& [name, kind] : kNames) {
    if (text.substr(next, name.size()) != name) continue;
    size_t end = next + name.size();
    const size_t digits = end;
    if (kind == TagKind::kAnswer || kind == TagKind::kConfidence)
      while (end < text.size() && text[end] >= '0' && text[end] <= '9') ++end;
    if (end >= text.size() || text[end] != '>') return false;
    tag.kind = kind;
    tag.number = tag_number(text.substr(digits, end - digits));
    tag.begin = static_cast<int64_t>(at);
    tag.end = static_cast<int64_t>(end + 1);
    return true;
  }
  return false;
}

}  // namespace

std::vector<Tag> scan_tags(std::string_view text) {
  std::vector<Tag> tags;
  for (size_t at = text.find('<'); at != std::string_view::npos; at = text.find('<', at)) {
    Tag tag;
    if (read_tag(text, at, tag)) {
      tags.push_back(tag);
      at = static_cast<size_t>(tag.end);
    } else {
      ++at;
    }
  }
  return tags;
}

TagIndex::TagIndex(std::string_view text, int64_t largest_wanted) {
  const std::vector<Tag> all = scan_tags(text);
  check_think(text, all);
  for (const Tag& tag : all) {
    if (tag.kind == TagKind::kThink || tag.begin < body_begin_) continue;
    tags_.push_back(tag);
    if (tag.kind == TagKind::kAnswer) largest_answer_ = std::max(largest_answer_, tag.number);
    if (tag.kind == TagKind::kConfidence) largest_confidence_ = std::max(largest_confidence_, tag.number);
  }
  // A text of few tags cannot hold answers 1..n for a huge n, so a huge number must not cost memory.
  largest_wanted = std::min(largest_wanted, static_cast<int64_t>(tags_.size()) + 1024);
  answers_.resize(static_cast<size_t>(std::min(largest_wanted, largest_answer_)) + 1);
  confidences_.resize(static_cast<size_t>(std::min(largest_wanted, largest_confidence_)) + 1);
  std::vector<Span> open_answers(answers_.size()), open_confidences(confidences_.size());
  Span open_analysis;
  for (const Tag& tag : tags_) {
    if (tag.kind == TagKind::kAnalysis) {
      add(tag, analysis_, open_analysis);
      continue;
    }
    std::vector<Block>& blocks = tag.kind == TagKind::kAnswer ? answers_ : confidences_;
    std::vector<Span>& open = tag.kind == TagKind::kAnswer ? open_answers : open_confidences;
    const auto number = static_cast<size_t>(tag.number);  // -1 becomes huge
    if (number < blocks.size()) add(tag, blocks[number], open[number]);
  }
}

void TagIndex::add(const Tag& tag, Block& block, Span& open) {
  if (!tag.closing) {
    if (block.openings++ == 0) block.first_opening = tag.begin;
    if (open.empty()) open = {tag.begin, tag.end};
    return;
  }
  if (block.closings++ == 0) block.first_closing = tag.begin;
  if (open.empty()) return;
  block.last = {open.begin, tag.end};
  block.last_text = {open.end, tag.begin};
  if (!block.found) block.first = block.last, block.first_text = block.last_text;
  block.found = true;
  open = {};
}

void TagIndex::check_think(std::string_view text, const std::vector<Tag>& all) {
  std::vector<const Tag*> opening, closing;
  for (const Tag& tag : all)
    if (tag.kind == TagKind::kThink) (tag.closing ? closing : opening).push_back(&tag);
  if (!closing.empty()) body_begin_ = closing.back()->end;
  has_think_ = !opening.empty() && !closing.empty();
  think_ok_ = has_think_ && opening.size() == closing.size();
  for (size_t i = 0; think_ok_ && i < opening.size(); ++i) {
    if (closing[i]->begin < opening[i]->end) {
      think_ok_ = false;
      break;
    }
    // A tag is no space, so looking for the first non-space stops at the next tag: linear over all pairs.
    size_t at = static_cast<size_t>(opening[i]->end);
    const auto end = static_cast<size_t>(closing[i]->begin);
    const size_t next_tag = std::min(text.find('<', at), end);
    think_ok_ = next_tag < end || !trim(text.substr(at, end - at)).empty();
  }
}

const Block& TagIndex::block(TagKind kind, int64_t number) const {
  static const Block kNone;
  if (kind == TagKind::kAnalysis) return number == 0 ? analysis_ : kNone;
  const std::vector<Block>& blocks = kind == TagKind::kAnswer ? answers_ : confidences_;
  const auto at = static_cast<size_t>(number);
  return at < blocks.size() ? blocks[at] : kNone;
}

}  // namespace plural
