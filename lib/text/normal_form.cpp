// SPDX-License-Identifier: Apache-2.0
#include "lib/text/normal_form.h"

#include <unicode/locid.h>
#include <unicode/normalizer2.h>
#include <unicode/uchar.h>
#include <unicode/unistr.h>
#include <unicode/utf8.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

#include "lib/core/utf8.h"
#include "plural/answers.h"

namespace plural {
namespace {

bool is_ascii(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) < 0x80; });
}

constexpr bool is_ascii_word_character(char32_t c) {
  return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z');
}

constexpr bool is_ascii_space(int32_t c) { return c == ' ' || (c >= 0x09 && c <= 0x0d) || (c >= 0x1c && c <= 0x1f); }

constexpr bool is_ascii_punctuation(char32_t c) {
  return (c >= 0x21 && c <= 0x2f) || (c >= 0x3a && c <= 0x40) || (c >= 0x5b && c <= 0x60) || (c >= 0x7b && c <= 0x7e);
}

/// Quotes, dashes, the ellipsis, the minus sign and guillemets: typographic twins of ASCII punctuation.
bool is_typographic_punctuation(char32_t c) {
  switch (c) {
    case 0x2018:
    case 0x2019:
    case 0x201c:
    case 0x201d:
    case 0x2013:
    case 0x2014:
    case 0x2026:
    case 0x2212:
    case 0x00ab:
    case 0x00bb:
      return true;
    default:
      return false;
  }
}

/// Letters and everything with a numeric value, as Python's isalnum.
bool is_word_character(char32_t c) {
  if (c < 0x80) return is_ascii_word_character(c);
  const auto code_point = static_cast<UChar32>(c);
  return u_isalpha(code_point) || u_getIntPropertyValue(code_point, UCHAR_NUMERIC_TYPE) != U_NT_NONE;
}

/// Lower case, root locale (final sigma and dotted capital I included), of the NFC if asked for.
std::u32string fold(std::string_view text, bool compose) {
  std::u32string folded;
  folded.reserve(text.size());
  icu::UnicodeString wide = icu::UnicodeString::fromUTF8(
      icu::StringPiece(text.data(), static_cast<int32_t>(text.size())));
  if (compose) {
    UErrorCode status = U_ZERO_ERROR;
    const icu::Normalizer2* nfc = icu::Normalizer2::getNFCInstance(status);
    const icu::UnicodeString composed = U_SUCCESS(status) ? nfc->normalize(wide, status) : wide;
    if (U_SUCCESS(status)) wide = composed;
  }
  wide.toLower(icu::Locale::getRoot());
  for (int32_t i = 0; i < wide.length();) {
    const UChar32 c = wide.char32At(i);
    folded.push_back(static_cast<char32_t>(c));
    i += U16_LENGTH(c);
  }
  return folded;
}

template <class Character>
bool is_article(std::basic_string_view<Character> word) {
  constexpr Character a = 'a', n = 'n', t = 't', h = 'h', e = 'e';
  return (word.size() == 1 && word[0] == a) || (word.size() == 2 && word[0] == a && word[1] == n) ||
         (word.size() == 3 && word[0] == t && word[1] == h && word[2] == e);
}

bool is_digit(char c) { return c >= '0' && c <= '9'; }

/// The rest of the way: articles and spaces.
std::string join_words(std::u32string_view text) {
  std::string result;
  result.reserve(text.size());
  bool gap = false;  // a space or a dropped article came before
  for (size_t i = 0; i < text.size();) {
    size_t end = i;
    while (end < text.size() && is_word_character(text[end])) ++end;
    if (end > i && is_article(text.substr(i, end - i))) {
      gap = true;
      i = end;
      continue;
    }
    if (end == i) ++end;
    if (end == i + 1 && is_space(static_cast<int32_t>(text[i]))) {
      gap = true;
      i = end;
      continue;
    }
    if (gap && !result.empty()) result.push_back(' ');
    gap = false;
    for (; i < end; ++i) append_utf8(result, text[i] >= 0xd800 && text[i] <= 0xdfff ? char32_t{0xfffd} : text[i]);
  }
  return result;
}

/// What the normal form does with an ASCII character.
enum class AsciiClass : uint8_t { kDropped, kSpace, kWord, kOther };

constexpr auto kAsciiClasses = [] {
  std::array<AsciiClass, 0x80> classes{};
  for (char32_t c = 0; c < classes.size(); ++c)
    classes[c] = is_ascii_punctuation(c)                   ? AsciiClass::kDropped
                 : is_ascii_space(static_cast<int32_t>(c)) ? AsciiClass::kSpace
                 : is_ascii_word_character(c)              ? AsciiClass::kWord
                                                           : AsciiClass::kOther;
  return classes;
}();

/// The whole way for ASCII text, as nearly all of it is, in one pass: what is kept is never longer than what was read.
std::string ascii_normal_form(std::string_view text) {
  std::string result(text.size(), '\0');
  size_t size = 0;
  size_t word = 0, before_word = 0;  // where the last word begins, and the space before it
  bool gap = false, in_word = false;
  const auto begin = [&] {
    before_word = size;
    if (gap && size > 0) result[size++] = ' ';
    gap = false;
    word = size;
  };
  const auto end_word = [&] {
    if (in_word && is_article(std::string_view(result).substr(word, size - word))) size = before_word, gap = true;
    in_word = false;
  };
  for (const char c : text) {
    switch (kAsciiClasses[static_cast<unsigned char>(c)]) {
      case AsciiClass::kDropped:
        break;
      case AsciiClass::kWord:
        if (!in_word) begin();
        in_word = true;
        result[size++] = c >= 'A' && c <= 'Z' ? static_cast<char>(c + ('a' - 'A')) : c;
        break;
      case AsciiClass::kSpace:
        end_word();
        gap = true;
        break;
      case AsciiClass::kOther:
        end_word();
        begin();
        result[size++] = c;
        break;
    }
  }
  end_word();
  result.resize(size);
  return result;
}

}  // namespace

bool is_space(int32_t c) {
  if (c < 0x80) return is_ascii_space(c);
  return u_isUWhiteSpace(c);
}

std::string_view trim(std::string_view text) {
  const auto* bytes = reinterpret_cast<const uint8_t*>(text.data());
  size_t begin = 0, end = text.size();
  while (begin < end) {
    size_t next = begin;
    UChar32 c;
    U8_NEXT(bytes, next, end, c);
    if (c < 0 || !is_space(c)) break;
    begin = next;
  }
  while (end > begin) {
    const size_t window = std::min<size_t>(4, end - begin);  // the longest code point
    const uint8_t* tail = bytes + (end - window);
    auto at = static_cast<int32_t>(window);
    UChar32 c;
    U8_PREV(tail, 0, at, c);
    if (c < 0 || !is_space(c)) break;
    end -= window - static_cast<size_t>(at);
  }
  return text.substr(begin, end - begin);
}

std::optional<double> parse_number(std::string_view text) {
  if (is_ascii(text)) {
    // U+001C..U+001F are spaces elsewhere, but not around an all-ASCII number.
    const auto first = text.find_first_not_of(" \t\n\v\f\r");
    if (first == std::string_view::npos) return std::nullopt;
    text = text.substr(first, text.find_last_not_of(" \t\n\v\f\r") - first + 1);
  } else {
    text = trim(text);
  }
  size_t at = 0;
  bool negative = false;
  if (at < text.size() && (text[at] == '+' || text[at] == '-')) negative = text[at++] == '-';
  const size_t mantissa = at;
  size_t digits = 0;
  bool nonzero = false;
  int64_t point_shift = 0;  // decimal exponent of the first non-zero digit, for telling overflow from underflow
  bool after_point = false;
  for (; at < text.size() && (is_digit(text[at]) || (text[at] == '.' && !after_point)); ++at) {
    if (text[at] == '.') {
      after_point = true;
      continue;
    }
    ++digits;
    if (!nonzero && text[at] != '0')
      nonzero = true, point_shift = after_point ? point_shift - 1 : 0;
    else if (!nonzero && after_point)
      --point_shift;
    else if (nonzero && !after_point)
      ++point_shift;
  }
  if (digits == 0) return std::nullopt;
  int64_t exponent = 0;
  if (at < text.size() && (text[at] == 'e' || text[at] == 'E')) {
    ++at;
    bool negative_exponent = false;
    if (at < text.size() && (text[at] == '+' || text[at] == '-')) negative_exponent = text[at++] == '-';
    if (at == text.size() || !is_digit(text[at])) return std::nullopt;
    for (; at < text.size() && is_digit(text[at]); ++at)
      exponent = std::min<int64_t>(exponent * 10 + (text[at] - '0'), int64_t{1} << 40);
    if (negative_exponent) exponent = -exponent;
  }
  if (at != text.size()) return std::nullopt;
  if (!nonzero) return negative ? -0.0 : 0.0;
  double value = 0;
  const auto result = std::from_chars(text.data() + mantissa, text.data() + text.size(), value);
  if (result.ec == std::errc::result_out_of_range) {
    if (point_shift + exponent > 0) return std::nullopt;
    value = 0;
  }
  if (!std::isfinite(value)) return std::nullopt;
  return negative ? -value : value;
}

std::string normal_form(std::string_view text) {
  if (is_ascii(text)) return ascii_normal_form(text);
  std::u32string folded = fold(text, true);
  std::erase_if(folded, [](char32_t c) { return is_ascii_punctuation(c) || is_typographic_punctuation(c); });
  return join_words(folded);
}

std::string reference_normal_form(std::string_view text) {
  if (is_ascii(text)) return ascii_normal_form(text);
  std::u32string folded = fold(text, false);
  std::erase_if(folded, is_ascii_punctuation);
  return join_words(folded);
}

std::string word_set_key(std::string_view text) {
  std::string parted(text);
  for (char& c : parted)
    if (c == '-' || c == '_' || c == '/') c = ' ';
  const std::string normal = normal_form(parted);
  std::vector<std::string> words;
  for (size_t begin = 0; begin < normal.size();) {
    const size_t end = std::min(normal.find(' ', begin), normal.size());
    std::string word = normal.substr(begin, end - begin);
    if (word.size() > 3 && word.back() == 's') word.pop_back();
    words.push_back(std::move(word));
    begin = end + 1;
  }
  std::sort(words.begin(), words.end());
  words.erase(std::unique(words.begin(), words.end()), words.end());
  std::string key;
  for (const std::string& word : words) {
    if (!key.empty()) key.push_back(' ');
    key += word;
  }
  return key;
}

}  // namespace plural
