// SPDX-License-Identifier: Apache-2.0
// UTF-8: the one place that knows which bytes form a character.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace plural {

/// What stands at one place of a byte string: a character, or an ill-formed sequence.
struct Utf8Step {
  size_t size;  ///< bytes to go on by; for an ill-formed sequence its maximal subpart (Unicode
                ///< 15, 3.9, U+FFFD)
  bool valid;
  bool cut;  ///< ill-formed only because the text ends inside the character
};

/// Looks at the character that starts at text[at]; at < text.size().
Utf8Step utf8_step(std::string_view text, size_t at);

/// One character of text that is known to be valid.
struct CodePoint {
  char32_t value;
  size_t size;  ///< bytes
};

inline CodePoint decode_utf8(const char* bytes) {
  const auto byte = [bytes](int i) { return static_cast<char32_t>(static_cast<unsigned char>(bytes[i])); };
  const char32_t lead = byte(0);
  if (lead < 0x80) return {lead, 1};
  if (lead < 0xE0) return {(lead & 0x1F) << 6 | (byte(1) & 0x3F), 2};
  if (lead < 0xF0) return {(lead & 0x0F) << 12 | (byte(1) & 0x3F) << 6 | (byte(2) & 0x3F), 3};
  return {(lead & 0x07) << 18 | (byte(1) & 0x3F) << 12 | (byte(2) & 0x3F) << 6 | (byte(3) & 0x3F), 4};
}

void append_utf8(std::string& out, char32_t code_point);

/// Bytes of the valid text that `text` starts with: text.size() when all of it is valid. Eight ASCII bytes at a time.
size_t valid_utf8_prefix(std::string_view text);
inline bool is_valid_utf8(std::string_view text) { return valid_utf8_prefix(text) == text.size(); }

/// Each ill-formed sequence becomes one U+FFFD, as Python's bytes.decode("utf-8", errors="replace")
/// does.
std::string replace_invalid_utf8(std::string_view text);

/// Bytes (0 to 3) at the end of `text` that begin a character which more bytes could complete.
size_t open_utf8_suffix(std::string_view text);

}  // namespace plural
