// SPDX-License-Identifier: Apache-2.0
// One pass over a completion that finds all tags of the answer formats, and what lies between them.
// Tags are literal and case-sensitive; there is no nesting: a block runs from an opening tag to the first
// closing tag of the same name, and an inner opening tag is plain text.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory_resource>
#include <optional>
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

/// Reads the tags of a text in their order. Linear in the text, without memory of its own.
class TagScanner {
 public:
  explicit TagScanner(std::string_view text, int64_t from = 0) : text_(text), at_(static_cast<size_t>(from)) {}
  /// The next tag; nullopt after the last one.
  std::optional<Tag> next();

 private:
  std::string_view text_;
  size_t at_;
};

/// Where the body of a completion begins: after the last closing think tag.
int64_t body_begin(std::string_view text);

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
  Span open;  ///< the opening tag that a closing tag would end; empty when there is none
};

/// A completion split into think and body. Memory is for the numbers that occur, up to the largest wanted, and not for
/// the text: a table that grows with the text costs more than reading it (fresh pages of memory).
class TagIndex {
 public:
  /// Blocks with numbers above `largest_wanted` are only counted in largest().
  TagIndex(std::string_view text, int64_t largest_wanted);
  TagIndex(const TagIndex&) = delete;  // its tables lie within itself
  TagIndex& operator=(const TagIndex&) = delete;

  /// Opening and closing think tags are balanced, in order, and none is empty.
  bool think_ok() const { return think_ok_; }
  /// An opening and a closing think tag occur.
  bool has_think() const { return has_think_; }
  /// The plain (number 0) or numbered block of the body; an all-zero Block when there is none. Not for kThink.
  const Block& block(TagKind kind, int64_t number) const;
  /// The largest number of a tag of this kind in the body. Answers and confidences only.
  int64_t largest(TagKind kind) const { return blocks_[static_cast<size_t>(kind)].largest; }

 private:
  /// Bytes that the tables of most completions fit in.
  static constexpr size_t kUsualMemory = 4096;

  /// The blocks of one kind.
  struct Blocks {
    explicit Blocks(std::pmr::memory_resource* memory) : place(memory), found(memory) {}

    int64_t largest = 0;
    std::pmr::vector<uint32_t> place;  ///< by number, 0 = plain: 1 + the place in `found`; 0 = does not occur
    std::pmr::vector<Block> found;

    const Block* find(int64_t number) const;
    Block& get(int64_t number);
  };

  bool think_ok_ = false;
  bool has_think_ = false;
  alignas(std::max_align_t) std::array<std::byte, kUsualMemory> usual_;
  std::pmr::monotonic_buffer_resource memory_{usual_.data(), usual_.size()};  // asks the heap for more
  std::array<Blocks, 4> blocks_{Blocks(&memory_), Blocks(&memory_), Blocks(&memory_), Blocks(&memory_)};  // by TagKind
};

}  // namespace plural
