// SPDX-License-Identifier: Apache-2.0
// Pre-tokenisers: text -> the pieces ("words") that byte-pair encoding never merges across.
#pragma once

#include <deque>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace plural {

/// Pieces of one text, in order. They point into the text, or into `owned` where a stage had to add
/// to it.
struct Pieces {
  std::vector<std::string_view> views;
  std::deque<std::string> owned;
};

/// One stage. Immutable, safe to share between threads.
class PreTokenizer {
 public:
  virtual ~PreTokenizer() = default;
  /// Appends the non-empty parts of `text` (valid UTF-8) to `out`.
  virtual void split(std::string_view text, Pieces& out) const = 0;
};

/// What a Split stage does with the matches of its pattern (`behavior` in tokenizer.json).
enum class SplitBehavior { kRemoved, kIsolated, kMergedWithPrevious, kMergedWithNext, kContiguous };

/// ByteLevel: a space before text that has none (`add_prefix_space`), then GPT-2's pattern
/// (`use_regex`).
std::unique_ptr<PreTokenizer> make_byte_level(bool add_prefix_space, bool use_regex);

/// Digits: each number character alone (`individual_digits`), or runs of them.
std::unique_ptr<PreTokenizer> make_digits(bool individual_digits);

/// Split at a regular expression. The patterns of GPT-2, Llama 3 and Qwen 2 with behaviour Isolated
/// run as hand-written scanners; any other goes to Oniguruma. Throws InputError with Oniguruma's
/// reason for a broken pattern.
std::unique_ptr<PreTokenizer> make_split(const std::string& regex, SplitBehavior behavior, bool invert);

/// Split at a fixed string.
std::unique_ptr<PreTokenizer> make_split_string(const std::string& literal, SplitBehavior behavior, bool invert);

/// Always Oniguruma; the reference that the hand-written scanners are tested against.
std::unique_ptr<PreTokenizer> make_split_oniguruma(const std::string& regex, SplitBehavior behavior, bool invert);

/// Stages one after the other, each splitting the pieces of the one before.
std::unique_ptr<PreTokenizer> make_sequence(std::vector<std::unique_ptr<PreTokenizer>> stages);

/// The known patterns, as tokenizer.json spells them.
extern const char* const kGpt2Pattern;
extern const char* const kLlama3Pattern;
extern const char* const kQwen2Pattern;

/// Hand-written scanner of a known pattern, or null.
std::unique_ptr<PreTokenizer> make_known_scanner(const std::string& regex);

}  // namespace plural
