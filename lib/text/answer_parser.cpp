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
/// Blocks of a kind that most completions hold at most: room for them is made at once.
constexpr size_t kUsualBlocks = 8;
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

/// Whether the think tags of a text pair up: as many opening as closing ones, the i-th closing tag after the i-th
/// opening tag, and something other than space between the two.
class ThinkTags {
 public:
  explicit ThinkTags(std::string_view text) : text_(text) {}

  void add(const Tag& tag) {
    if (!tag.closing) {
      ++openings_;
      last_opening_end_ = static_cast<size_t>(tag.end);
      return;
    }
    ++closings_;
    if (closings_ > openings_) ok_ = false;
    // A tag is no space, so a pair can be empty only when it is the last opening tag's, with no '<' in between.
    if (closings_ == openings_ && is_blank(last_opening_end_, static_cast<size_t>(tag.begin))) ok_ = false;
  }
  bool both_occur() const { return openings_ > 0 && closings_ > 0; }
  bool pair_up() const { return ok_ && both_occur() && openings_ == closings_; }

 private:
  // Looking for the next '<' first keeps this linear: what it looks at, no later pair looks at again.
  bool is_blank(size_t begin, size_t end) const {
    return std::min(text_.find('<', begin), end) == end && trim(text_.substr(begin, end - begin)).empty();
  }

  std::string_view text_;
  int64_t openings_ = 0, closings_ = 0;
  size_t last_opening_end_ = 0;
  bool ok_ = true;
};

void add_tag(const Tag& tag, Block& block) {
  if (!tag.closing) {
    if (block.openings++ == 0) block.first_opening = tag.begin;
    if (block.open.empty()) block.open = {tag.begin, tag.end};
    return;
  }
  if (block.closings++ == 0) block.first_closing = tag.begin;
  if (block.open.empty()) return;
  block.last = {block.open.begin, tag.end};
  block.last_text = {block.open.end, tag.begin};
  if (!block.found) block.first = block.last, block.first_text = block.last_text;
  block.found = true;
  block.open = {};
}

}  // namespace

std::optional<Tag> TagScanner::next() {
  Tag tag;
  for (at_ = text_.find('<', at_); at_ != std::string_view::npos; at_ = text_.find('<', at_ + 1)) {
    if (!read_tag(text_, at_, tag)) continue;
    at_ = static_cast<size_t>(tag.end);
    return tag;
  }
  return std::nullopt;
}

int64_t body_begin(std::string_view text) {
  constexpr std::string_view kEnd = "</think>";
  // From '/' to '/', which are fewer than '<', and many bytes at a time: rfind compares byte by byte.
  size_t slash = text.size();
  while (const void* found = slash > 1 ? memrchr(text.data() + 1, '/', slash - 1) : nullptr) {
    slash = static_cast<size_t>(static_cast<const char*>(found) - text.data());
    if (text.substr(slash - 1, kEnd.size()) == kEnd) return static_cast<int64_t>(slash - 1 + kEnd.size());
  }
  return 0;
}

TagIndex::TagIndex(std::string_view text, int64_t largest_wanted) {
  const int64_t begin = body_begin(text);
  ThinkTags think(text);
  TagScanner scanner(text);
  while (const std::optional<Tag> tag = scanner.next()) {
    if (tag->kind == TagKind::kThink) {
      think.add(*tag);
      continue;
    }
    if (tag->begin < begin) continue;
    Blocks& blocks = blocks_[static_cast<size_t>(tag->kind)];
    blocks.largest = std::max(blocks.largest, tag->number);
    if (tag->number >= 0 && tag->number <= largest_wanted) add_tag(*tag, blocks.get(tag->number));
  }
  has_think_ = think.both_occur();
  think_ok_ = think.pair_up();
}

const Block* TagIndex::Blocks::find(int64_t number) const {
  const auto at = static_cast<size_t>(number);
  return at < place.size() && place[at] > 0 ? &found[place[at] - 1] : nullptr;
}

Block& TagIndex::Blocks::get(int64_t number) {
  const auto at = static_cast<size_t>(number);
  if (found.empty()) found.reserve(kUsualBlocks), place.reserve(kUsualBlocks);
  if (at >= place.size()) place.resize(at + 1, 0);
  if (place[at] == 0) {
    found.emplace_back();
    place[at] = static_cast<uint32_t>(found.size());
  }
  return found[place[at] - 1];
}

const Block& TagIndex::block(TagKind kind, int64_t number) const {
  static const Block kNone;
  const Block* block = blocks_[static_cast<size_t>(kind)].find(number);
  return block == nullptr ? kNone : *block;
}

}  // namespace plural
