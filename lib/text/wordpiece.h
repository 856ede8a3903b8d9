// SPDX-License-Identifier: Apache-2.0
// The tokenizer of BERT-like encoders (Schuster and Nakajima 2012; Devlin et al. 2019, arXiv 1810.04805): text -> words
// -> the longest pieces of the vocabulary, from the left. Ids equal the `tokenizers` library. There is no way back to
// text, so this is not a plural::Tokenizer.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "plural/tokenizer.h"

namespace plural {

/// Immutable after loading and safe to share between threads.
class WordPiece {
 public:
  /// Reads tokenizer.json of a model folder; what is not supported throws InputError naming file and field.
  static WordPiece load(const std::filesystem::path& model_dir);

  /// The ids of any bytes, with the model's special tokens around them. Of a text longer than `max_length` ids in all,
  /// the end falls away. Linear in the text.
  std::vector<TokenId> encode(std::string_view text, int64_t max_length) const;
  /// The largest id plus one.
  int64_t vocab_size() const;

 private:
  struct Impl;
  explicit WordPiece(std::shared_ptr<const Impl> impl) : impl_(std::move(impl)) {}
  std::shared_ptr<const Impl> impl_;
};

}  // namespace plural
