// SPDX-License-Identifier: Apache-2.0
// Text <-> token ids from a Hugging Face `tokenizer.json` (byte-level BPE), and chat templates.
// Encoding equals the `tokenizers` library; decoding is byte-exact.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace plural {

using TokenId = int64_t;

/// One turn of a conversation. `role` is "system", "user" or "assistant".
struct Message {
  std::string role;
  std::string content;
};

/// Immutable after loading and safe to share between threads; copying shares the tables.
class Tokenizer {
 public:
  /// Reads tokenizer.json, and the chat template and special-token names of tokenizer_config.json
  /// (or chat_template.jinja), from a model folder. Throws InputError naming file and field.
  static Tokenizer load(const std::filesystem::path& model_dir);

  /// Ids of `text`. Special tokens written in the text become their ids (as `tokenizers` does).
  /// Invalid UTF-8 is replaced by U+FFFD first. Cost: linear, >= 5 MB/s on one core.
  std::vector<TokenId> encode(std::string_view text, bool add_special_tokens = false) const;

  /// The exact bytes of `ids`, or without special tokens. Unknown ids throw InputError.
  std::string decode(std::span<const TokenId> ids, bool skip_special_tokens = false) const;

  /// The exact bytes one id stands for (special tokens: their text). Valid while the tokenizer
  /// lives.
  std::string_view token_bytes(TokenId id) const;

  /// The conversation as text, as `apply_chat_template` renders it. An unknown template throws
  /// InputError.
  std::string render_chat(std::span<const Message> messages, bool add_generation_prompt = true) const;
  /// encode(render_chat(messages)).
  std::vector<TokenId> encode_chat(std::span<const Message> messages, bool add_generation_prompt = true) const;

  bool is_special(TokenId id) const;
  /// The id of a token as tokenizer.json spells it ("Ġthe"; added tokens: their text).
  std::optional<TokenId> id_of(std::string_view token) const;
  /// The largest id plus one, added tokens included (a model's vocabulary may be padded to more).
  int64_t vocab_size() const;
  /// End-of-turn/end-of-text ids: eos_token of tokenizer_config.json, if any.
  std::optional<TokenId> eos_id() const;
  std::optional<TokenId> bos_id() const;

 private:
  struct Impl;
  explicit Tokenizer(std::shared_ptr<const Impl> impl) : impl_(std::move(impl)) {}
  std::shared_ptr<const Impl> impl_;
};

/// Turns ids into text one at a time, holding back bytes until they form whole UTF-8 characters.
class StreamingDecoder {
 public:
  explicit StreamingDecoder(const Tokenizer& tokenizer) : tokenizer_(tokenizer) {}
  /// Text that became complete with this id ("" while a character is still open).
  std::string push(TokenId id);
  /// What is still held back, as it is.
  std::string finish();

 private:
  Tokenizer tokenizer_;
  std::string pending_;
};

}  // namespace plural
