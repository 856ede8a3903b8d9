// SPDX-License-Identifier: Apache-2.0
#include "lib/text/added_tokens.h"

#include <algorithm>

#include "lib/text/unicode_classes.h"

namespace plural {
namespace {

/// Start of the last character of `text`, which is valid UTF-8 and not empty.
const char* last_character(std::string_view text) {
  const char* at = text.data() + text.size() - 1;
  while ((static_cast<unsigned char>(*at) & 0xC0) == 0x80) --at;
  return at;
}

bool is_space(const char* at) { return (char_classes()[decode_utf8(at).value] & kSpace) != 0; }

bool ends_with_word(std::string_view text) {
  return !text.empty() && is_word_char(decode_utf8(last_character(text)).value);
}
bool starts_with_word(std::string_view text) { return !text.empty() && is_word_char(decode_utf8(text.data()).value); }

size_t spaces_at_end(std::string_view text) {
  const size_t size = text.size();
  while (!text.empty() && is_space(last_character(text)))
    text = text.substr(0, static_cast<size_t>(last_character(text) - text.data()));
  return size - text.size();
}

size_t spaces_at_start(std::string_view text) {
  const size_t size = text.size();
  while (!text.empty() && is_space(text.data())) text.remove_prefix(decode_utf8(text.data()).size);
  return size - text.size();
}

}  // namespace

AddedTokenFinder::AddedTokenFinder(std::vector<AddedToken> tokens, const std::vector<std::string>& patterns)
    : tokens_(std::move(tokens)), trie_(1) {
  for (size_t i = 0; i < patterns.size(); ++i) {
    if (patterns[i].empty()) continue;
    int32_t node = 0;
    for (const char c : patterns[i]) {
      int32_t next = child(node, static_cast<unsigned char>(c));
      if (next < 0) {
        next = static_cast<int32_t>(trie_.size());
        trie_[static_cast<size_t>(node)].next.emplace_back(static_cast<unsigned char>(c), next);
        trie_.emplace_back();
      }
      node = next;
    }
    // Of two tokens with one text the first counts.
    int32_t& token = trie_[static_cast<size_t>(node)].token;
    if (token < 0) token = static_cast<int32_t>(i);
  }
  for (int byte = 0; byte < 256; ++byte) first_[static_cast<size_t>(byte)] = child(0, static_cast<unsigned char>(byte));
}

int32_t AddedTokenFinder::child(int32_t node, unsigned char byte) const {
  for (const auto& [label, next] : trie_[static_cast<size_t>(node)].next)
    if (label == byte) return next;
  return -1;
}

void AddedTokenFinder::split(std::string_view text, std::vector<Part>& out) const {
  size_t done = 0;  // end of what is in `out`
  for (size_t at = 0; at < text.size();) {
    int32_t node = first_[static_cast<unsigned char>(text[at])];
    if (node < 0) {
      ++at;
      continue;
    }
    int32_t found = -1;
    size_t found_end = at;
    for (size_t end = at + 1;;) {
      if (trie_[static_cast<size_t>(node)].token >= 0) {
        found = trie_[static_cast<size_t>(node)].token;
        found_end = end;
      }
      if (end == text.size()) break;
      node = child(node, static_cast<unsigned char>(text[end++]));
      if (node < 0) break;
    }
    if (found < 0) {
      ++at;
      continue;
    }
    size_t begin = at;
    size_t end = found_end;
    at = found_end;
    const AddedToken& token = tokens_[static_cast<size_t>(found)];
    if (token.single_word && (ends_with_word(text.substr(0, begin)) || starts_with_word(text.substr(end)))) continue;
    if (token.lstrip) begin = std::max(begin - spaces_at_end(text.substr(0, begin)), std::min(done, begin));
    if (token.rstrip) end += spaces_at_start(text.substr(end));
    if (done < begin) out.push_back({text.substr(done, begin - done), -1});
    out.push_back({text.substr(begin, end - begin), token.id});
    done = end;
  }
  if (done < text.size()) out.push_back({text.substr(done), -1});
}

}  // namespace plural
