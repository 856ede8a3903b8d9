// SPDX-License-Identifier: Apache-2.0
// Added tokens: strings that are found in the text before anything else and become one id.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace plural {

/// One entry of `added_tokens` in tokenizer.json.
struct AddedToken {
  int32_t id = 0;
  std::string content;
  bool special = false;
  bool normalized = false;   ///< looked for in the normalised text, else in the text as it came
  bool lstrip = false;       ///< takes the white space before it along
  bool rstrip = false;       ///< takes the white space after it along
  bool single_word = false;  ///< counts only with no word character next to it
};

/// Finds tokens in text: leftmost first, the longest of those that start there. Immutable.
class AddedTokenFinder {
 public:
  struct Part {
    std::string_view text;
    int32_t id;  ///< -1: text between tokens
  };

  /// `patterns[i]` is the string that stands for `tokens[i]` (its content, normalised or not).
  AddedTokenFinder(std::vector<AddedToken> tokens, const std::vector<std::string>& patterns);

  /// Appends the parts of `text` in order; text between tokens is never empty.
  void split(std::string_view text, std::vector<Part>& out) const;
  bool empty() const { return tokens_.empty(); }

 private:
  struct Node {
    int32_t token = -1;  ///< index of the token that ends here
    std::vector<std::pair<unsigned char, int32_t>> next;
  };
  int32_t child(int32_t node, unsigned char byte) const;

  std::vector<AddedToken> tokens_;
  std::vector<Node> trie_;
  std::array<int32_t, 256> first_;  ///< node after the first byte, -1 for none
};

}  // namespace plural
