// SPDX-License-Identifier: Apache-2.0
// Reading tokenizer.json and tokenizer_config.json. Whatever is not supported is refused by name,
// never ignored.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "lib/text/added_tokens.h"
#include "lib/text/bpe.h"
#include "lib/text/normalise_nfc.h"
#include "lib/text/pretokenize.h"

namespace plural {

/// tokenizer.json, checked and in bytes.
struct TokenizerFile {
  BpeTables bpe;
  std::vector<NormalForm> normalizers;  ///< applied in order
  std::unique_ptr<PreTokenizer> pre_tokenizer;
  std::vector<AddedToken> added_tokens;
  std::vector<int64_t> prefix_ids, suffix_ids;         ///< around a text with add_special_tokens
  std::vector<std::optional<std::string>> id_bytes;    ///< by id; empty where the file has no such id
  std::unordered_map<std::string, int32_t> token_ids;  ///< by the token as the file spells it
};

/// BertNormalizer of `tokenizers`: what happens to text before it is split into words, in this order.
struct BertNormalizer {
  bool clean_text = true;            ///< control characters go, white space becomes U+0020
  bool handle_chinese_chars = true;  ///< a CJK ideograph is a word of its own
  bool strip_accents = true;         ///< canonical decomposition without non-spacing marks
  bool lowercase = true;
};

/// tokenizer.json of a WordPiece model as BERT has it.
struct WordPieceFile {
  BertNormalizer normalizer;
  std::string continuing_prefix;  ///< how the vocabulary marks a piece that goes on a word, "##"
  int64_t max_characters = 100;   ///< longer words are unknown
  int32_t unk_id = 0;
  std::unordered_map<std::string, int32_t> token_ids;  ///< by the token as the file spells it
  std::vector<AddedToken> added_tokens;
  std::vector<int64_t> prefix_ids, suffix_ids;  ///< around a text: [CLS] and [SEP]
};

/// What tokenizer_config.json and chat_template.jinja say; both may be missing.
struct TokenizerConfigFile {
  std::optional<std::string> chat_template, chat_format, bos_token, eos_token;
};

/// Throw InputError naming file, field, what was found and what is supported.
TokenizerFile read_tokenizer_file(const std::filesystem::path& file);
WordPieceFile read_wordpiece_file(const std::filesystem::path& file);
TokenizerConfigFile read_tokenizer_config(const std::filesystem::path& model_dir);

}  // namespace plural
