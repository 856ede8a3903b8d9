// SPDX-License-Identifier: Apache-2.0
#include "lib/text/wordpiece.h"

#include <unicode/uchar.h>

#include <algorithm>
#include <string>

#include "lib/text/added_tokens.h"
#include "lib/text/normalise_nfc.h"
#include "lib/text/tokenizer_json.h"
#include "lib/core/utf8.h"

namespace plural {
namespace {

// `tokenizers` classifies characters here by tables of Unicode 8, so what came later is none of these; the exceptions
// changed their category since. Found by comparing all code points.

bool is_of_unicode_8(UChar32 c) {
  UVersionInfo age;
  u_charAge(c, age);
  return age[0] > 0 && age[0] <= 8;
}

bool is_control(UChar32 c) {
  if (c == '\t' || c == '\n' || c == '\r') return false;
  constexpr uint32_t kControl = U_GC_CC_MASK | U_GC_CF_MASK | U_GC_CO_MASK;
  return (U_MASK(u_charType(c)) & kControl) != 0 && is_of_unicode_8(c);
}

bool is_nonspacing_mark(UChar32 c) {
  if (c == 0x1734) return true;
  if (c == 0x1885 || c == 0x1886 || c == 0xA9BD || c == 0x111C9) return false;
  return u_charType(c) == U_NON_SPACING_MARK && is_of_unicode_8(c);
}

bool is_punctuation(UChar32 c) {
  if (c < 0x80)
    return (c >= 0x21 && c <= 0x2F) || (c >= 0x3A && c <= 0x40) || (c >= 0x5B && c <= 0x60) || (c >= 0x7B && c <= 0x7E);
  if (c == 0x166D || c == 0x111C9) return true;
  return (U_MASK(u_charType(c)) & U_GC_P_MASK) != 0 && is_of_unicode_8(c);
}

/// As `tokenizers` has it, with its gap between U+2B820 and U+2B91F.
bool is_cjk_ideograph(UChar32 c) {
  return (c >= 0x4E00 && c <= 0x9FFF) || (c >= 0x3400 && c <= 0x4DBF) || (c >= 0x20000 && c <= 0x2A6DF) ||
         (c >= 0x2A700 && c <= 0x2B81F) || (c >= 0x2B920 && c <= 0x2CEAF) || (c >= 0xF900 && c <= 0xFAFF) ||
         (c >= 0x2F800 && c <= 0x2FA1F);
}

/// Calls `visit` with each character of valid UTF-8.
template <class Visit>
void for_each_character(std::string_view text, const Visit& visit) {
  for (size_t at = 0; at < text.size();) {
    const CodePoint character = decode_utf8(text.data() + at);
    visit(static_cast<UChar32>(character.value), text.substr(at, character.size));
    at += character.size;
  }
}

std::string normalise_for_bert(std::string_view text, const BertNormalizer& options) {
  std::string cleaned;
  cleaned.reserve(text.size() + 16);
  for_each_character(text, [&](UChar32 c, std::string_view bytes) {
    if (options.clean_text) {
      if (c == 0 || c == 0xFFFD || is_control(c)) return;
      if (u_isUWhiteSpace(c)) bytes = " ";
    }
    const bool is_word = options.handle_chinese_chars && is_cjk_ideograph(c);
    if (is_word) cleaned += ' ';
    cleaned += bytes;
    if (is_word) cleaned += ' ';
  });
  if (!options.strip_accents && !options.lowercase) return cleaned;
  const std::string decomposed = options.strip_accents ? normalise(cleaned, NormalForm::kNfd) : std::move(cleaned);
  std::string folded;
  folded.reserve(decomposed.size());
  for_each_character(decomposed, [&](UChar32 c, std::string_view bytes) {
    if (options.strip_accents && is_nonspacing_mark(c)) return;
    if (!options.lowercase) {
      folded += bytes;
    } else {
      append_utf8(folded, static_cast<char32_t>(u_tolower(c)));
      if (c == 0x130) append_utf8(folded, 0x307);  // the one character whose lower case is two
    }
  });
  return folded;
}

}  // namespace

struct WordPiece::Impl {
  explicit Impl(WordPieceFile loaded)
      : file(std::move(loaded)), added(make_finder(file, false)), added_normalised(make_finder(file, true)) {
    for (const auto& [token, id] : file.token_ids) {
      first.emplace(token, id);
      if (token.starts_with(file.continuing_prefix))
        inner.emplace(std::string_view(token).substr(file.continuing_prefix.size()), id);
      longest = std::max(longest, token.size());
      vocab_size = std::max<int64_t>(vocab_size, id + 1);
    }
  }

  static AddedTokenFinder make_finder(const WordPieceFile& file, bool normalised) {
    std::vector<AddedToken> tokens;
    std::vector<std::string> patterns;
    for (const AddedToken& token : file.added_tokens) {
      if (token.normalized != normalised) continue;
      tokens.push_back(token);
      patterns.push_back(normalised ? normalise_for_bert(token.content, file.normalizer) : token.content);
    }
    return AddedTokenFinder(std::move(tokens), patterns);
  }

  void encode_text(std::string_view text, std::vector<TokenId>& out) const {
    size_t begin = 0;  // of the word that is open
    for (size_t at = 0; at < text.size();) {
      const CodePoint character = decode_utf8(text.data() + at);
      const auto c = static_cast<UChar32>(character.value);
      const bool mark = is_punctuation(c);
      if (mark || u_isUWhiteSpace(c)) {
        encode_word(text.substr(begin, at - begin), out);
        if (mark) encode_word(text.substr(at, character.size), out);
        begin = at + character.size;
      }
      at += character.size;
    }
    encode_word(text.substr(begin), out);
  }

  /// The longest pieces from the left; the whole word is unknown when a part of it is.
  void encode_word(std::string_view word, std::vector<TokenId>& out) const {
    if (word.empty()) return;
    const auto characters = std::ranges::count_if(word, [](char byte) { return (byte & 0xC0) != 0x80; });
    if (characters > file.max_characters) return out.push_back(file.unk_id);
    const size_t before = out.size();
    for (size_t at = 0; at < word.size();) {
      const auto& pieces = at == 0 ? first : inner;
      size_t size = std::min(word.size() - at, longest);
      auto found = pieces.find(word.substr(at, size));
      while (found == pieces.end() && --size > 0) found = pieces.find(word.substr(at, size));
      if (size == 0) {
        out.resize(before);
        return out.push_back(file.unk_id);
      }
      out.push_back(found->second);
      at += size;
    }
  }

  WordPieceFile file;
  AddedTokenFinder added, added_normalised;
  std::unordered_map<std::string_view, int32_t> first, inner;  ///< pieces at and after a word's begin; views into file
  size_t longest = 0;                                          ///< bytes of the longest token
  int64_t vocab_size = 0;
};

WordPiece WordPiece::load(const std::filesystem::path& model_dir) {
  return WordPiece(std::make_shared<const Impl>(read_wordpiece_file(model_dir / "tokenizer.json")));
}

std::vector<TokenId> WordPiece::encode(std::string_view text, int64_t max_length) const {
  const WordPieceFile& file = impl_->file;
  std::string repaired;
  if (!is_valid_utf8(text)) text = repaired = replace_invalid_utf8(text);
  std::vector<TokenId> out = file.prefix_ids;
  std::vector<AddedTokenFinder::Part> parts, inner_parts;
  impl_->added.split(text, parts);
  for (const auto& part : parts) {
    if (part.id >= 0) {
      out.push_back(part.id);
      continue;
    }
    const std::string normal = normalise_for_bert(part.text, file.normalizer);
    inner_parts.clear();
    impl_->added_normalised.split(normal, inner_parts);
    for (const auto& inner : inner_parts) {
      if (inner.id >= 0)
        out.push_back(inner.id);
      else
        impl_->encode_text(inner.text, out);
    }
  }
  const size_t room = static_cast<size_t>(max_length) -
                      std::min(static_cast<size_t>(max_length), file.suffix_ids.size());
  if (out.size() > room) out.resize(room);
  out.insert(out.end(), file.suffix_ids.begin(), file.suffix_ids.end());
  return out;
}

int64_t WordPiece::vocab_size() const { return impl_->vocab_size; }

}  // namespace plural
