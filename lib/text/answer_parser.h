// SPDX-License-Identifier: Apache-2.0
// One pass over a completion that finds all tags of the answer formats, and what lies between them.
// Tags are literal and case-sensitive; there is no nesting: a block runs from an opening tag to the first
// closing tag of the same name, and an inner opening tag is plain text.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "plural/answers.h"

namespace plural {

enum class TagKind { kThink, kAnswer, kConfidence, kAnalysis };

struct Tag {
  TagKind kind;
  bool closing;
  int64_t number;  ///< 0 = plain; 1, 2, ... as written without leading zeros; large ones saturate; -1 = other digits
  int64_t begin;   ///< of '<'
  int64_t end;     ///< one past '>'
};

/// All tags in their order. Linear in the text.
std::vector<Tag> scan_tags(std::string_view text);

/// What is known about one tag name in the body.
struct Block {
  int64_t openings = 0;
  int64_t closings = 0;
  int64_t first_opening = -1;  ///< byte, -1 = none
  int64_t first_closing = -1;
  bool found = false;
  Span first;       ///< bytes of the first block, tags included
  Span first_text;  ///< bytes between its tags, untrimmed
  Span last;
  Span last_text;
};

/// A completion split into think and body (everything after the last closing think tag).
class TagIndex {
 public:
  /// Blocks with numbers above `largest_wanted` are only counted in largest().
  TagIndex(std::string_view text, int64_t largest_wanted);

  /// Opening and closing think tags are balanced, in order, and none is empty.
  bool think_ok() const { return think_ok_; }
  /// An opening and a closing think tag occur.
  bool has_think() const { return has_think_; }
  int64_t body_begin() const { return body_begin_; }
  /// The plain (number 0) or numbered block of the body; an all-zero Block when there is none. Not for kThink.
  const Block& block(TagKind kind, int64_t number) const;
  /// The largest number of a tag of this kind in the body.
  int64_t largest(TagKind kind) const { return kind == TagKind::kAnswer ? largest_answer_ : largest_confidence_; }
  /// Tags of the body in their order.
  const std::vector<Tag>& tags() const { return tags_; }

 private:
  static void add(const Tag& tag, Block& block, Span& open);
  void check_think(std::string_view text, const std::vector<Tag>& all);

  bool think_ok_ = false;
  bool has_think_ = false;
  int64_t body_begin_ = 0;
  int64_t largest_answer_ = 0;
  int64_t largest_confidence_ = 0;
  std::vector<Tag> tags_;
  std::vector<Block> answers_;  // by number, 0 = plain
  std::vector<Block> confidences_;
  Block analysis_;
};

}  // namespace plural
