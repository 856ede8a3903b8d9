// SPDX-License-Identifier: Apache-2.0
// The three patterns that nearly all byte-level tokenisers use, as scanners. Each takes one step
// from the start of a match to its end, in the order of the pattern's alternatives; every character
// is covered, so matches are pieces.
#include <array>

#include "lib/text/pretokenize.h"
#include "lib/text/unicode_classes.h"

namespace plural {

const char* const kGpt2Pattern = R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
const char* const kLlama3Pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
const char* const kQwen2Pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

namespace {

/// A place in valid UTF-8 text, with the class of the character there.
class Cursor {
 public:
  explicit Cursor(std::string_view text) : at_(text.data()), end_(at_ + text.size()), classes_(char_classes()) {}

  struct Char {
    uint8_t classes;  ///< CharClass bits, 0 at the end of the text and for "other" characters
    uint8_t size;     ///< bytes; 0 at the end of the text
    bool is(uint8_t mask) const { return (classes & mask) != 0; }
    /// [^\s\p{L}\p{N}]
    bool is_other() const { return size != 0 && (classes & (kLetter | kNumber | kSpace)) == 0; }
  };

  Char peek(const char* at) const {
    if (at == end_) return {0, 0};
    const auto byte = static_cast<unsigned char>(*at);
    if (byte < 0x80) return {classes_[byte], 1};
    const CodePoint c = decode_utf8(at);
    return {classes_[c.value], static_cast<uint8_t>(c.size)};
  }

  /// End of the run of characters with any class of `mask` that starts at `at`.
  const char* run(const char* at, uint8_t mask) const {
    for (Char c = peek(at); c.is(mask); c = peek(at)) at += c.size;
    return at;
  }
  const char* run_of_other(const char* at) const {
    for (Char c = peek(at); c.is_other(); c = peek(at)) at += c.size;
    return at;
  }
  const char* run_of_newlines(const char* at) const {
    while (at != end_ && (*at == '\r' || *at == '\n')) ++at;
    return at;
  }

  /// `\s+(?!\S)|\s+` over a run that ends at `end`: all of it at the end of the text, else all but
  /// the last character, which is left for the next word, unless it is the only one.
  const char* spaces(const char* begin, const char* end) const {
    if (end == end_) return end;
    const char* last = end - 1;
    while ((static_cast<unsigned char>(*last) & 0xC0) == 0x80) --last;
    return last == begin ? end : last;
  }

  const char* at() const { return at_; }
  const char* end() const { return end_; }
  bool done() const { return at_ == end_; }
  void move_to(const char* at) { at_ = at; }

 private:
  const char* at_;
  const char* end_;
  const uint8_t* classes_;
};

/// Bytes of `'s|'t|'re|'ve|'m|'ll|'d` at `at` (which holds the apostrophe); 0 if none.
template <bool kIgnoreCase>
size_t contraction(const char* at, const char* end) {
  const auto lower = [](char c) { return kIgnoreCase && c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; };
  const size_t left = static_cast<size_t>(end - at);
  if (left < 2) return 0;
  const char first = lower(at[1]);
  if (first == 's' || first == 't' || first == 'm' || first == 'd') return 2;
  if (left < 3) return 0;
  const char second = lower(at[2]);
  if ((first == 'r' && second == 'e') || (first == 'v' && second == 'e') || (first == 'l' && second == 'l')) return 3;
  // U+017F, the long s, is an s in another case.
  if (kIgnoreCase && at[1] == '\xC5' && at[2] == '\xBF') return 3;
  return 0;
}

struct Gpt2 {
  static const char* step(const Cursor& text) {
    const char* at = text.at();
    if (*at == '\'')
      if (const size_t size = contraction<false>(at, text.end())) return at + size;
    const char* word = at + (*at == ' ');
    const Cursor::Char first = text.peek(word);
    if (first.is(kLetter)) return text.run(word + first.size, kLetter);
    if (first.is(kNumber)) return text.run(word + first.size, kNumber);
    if (first.is_other()) return text.run_of_other(word + first.size);
    return text.spaces(at, text.run(at, kSpace));
  }
};

/// Llama 3 (numbers in groups of up to three) and Qwen 2 (each number character alone).
template <int kMaxNumbers>
struct Llama3 {
  static const char* step(const Cursor& text) {
    const char* at = text.at();
    if (*at == '\'')
      if (const size_t size = contraction<true>(at, text.end())) return at + size;
    const Cursor::Char first = text.peek(at);
    if (first.is(kLetter)) return text.run(at + first.size, kLetter);
    if (first.is(kNumber)) {
      at += first.size;
      for (int count = 1; count < kMaxNumbers; ++count) {
        const Cursor::Char next = text.peek(at);
        if (!next.is(kNumber)) break;
        at += next.size;
      }
      return at;
    }
    if (*at != '\r' && *at != '\n') {
      const char* word = at + first.size;
      if (const Cursor::Char next = text.peek(word); next.is(kLetter)) return text.run(word + next.size, kLetter);
    }
    const char* word = at + (*at == ' ');
    if (text.peek(word).is_other()) return text.run_of_newlines(text.run_of_other(word));
    // Only white space is left: `\s*[\r\n]+` reaches to the last line break of the run.
    const char* end = text.run(at, kSpace);
    for (const char* last = end; last != at; --last)
      if (last[-1] == '\r' || last[-1] == '\n') return last;
    return text.spaces(at, end);
  }
};

template <class Pattern>
class Scanner : public PreTokenizer {
 public:
  void split(std::string_view text, Pieces& out) const override {
    Cursor cursor(text);
    while (!cursor.done()) {
      const char* end = Pattern::step(cursor);
      out.views.emplace_back(cursor.at(), static_cast<size_t>(end - cursor.at()));
      cursor.move_to(end);
    }
  }
};

}  // namespace

std::unique_ptr<PreTokenizer> make_known_scanner(const std::string& regex) {
  if (regex == kGpt2Pattern) return std::make_unique<Scanner<Gpt2>>();
  if (regex == kLlama3Pattern) return std::make_unique<Scanner<Llama3<3>>>();
  if (regex == kQwen2Pattern) return std::make_unique<Scanner<Llama3<1>>>();
  return nullptr;
}

}  // namespace plural
