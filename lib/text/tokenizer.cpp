// SPDX-License-Identifier: Apache-2.0
#include "plural/tokenizer.h"

#include <algorithm>
#include <mutex>

#include "lib/core/format.h"
#include "lib/text/chat_template.h"
#include "lib/text/tokenizer_json.h"
#include "lib/core/utf8.h"
#include "plural/error.h"

namespace plural {
namespace {

/// Caches for the calls of encode that run at the same time; as many as the threads that ever did.
class CachePool {
 public:
  class Lease {
   public:
    explicit Lease(CachePool& pool) : pool_(pool), cache_(pool.take()) {}
    ~Lease() { pool_.give_back(std::move(cache_)); }
    Lease(const Lease&) = delete;
    Lease& operator=(const Lease&) = delete;
    WordCache& operator*() { return *cache_; }

   private:
    CachePool& pool_;
    std::unique_ptr<WordCache> cache_;
  };

 private:
  std::unique_ptr<WordCache> take() {
    {
      const std::lock_guard lock(mutex_);
      if (!idle_.empty()) {
        auto cache = std::move(idle_.back());
        idle_.pop_back();
        return cache;
      }
    }
    return std::make_unique<WordCache>();
  }
  void give_back(std::unique_ptr<WordCache> cache) {
    const std::lock_guard lock(mutex_);
    idle_.push_back(std::move(cache));
  }

  std::mutex mutex_;
  std::vector<std::unique_ptr<WordCache>> idle_;
};

/// Finder of the added tokens with the given `normalized` flag.
AddedTokenFinder make_finder(const TokenizerFile& file, bool normalized) {
  std::vector<AddedToken> tokens;
  std::vector<std::string> patterns;
  for (const AddedToken& token : file.added_tokens) {
    if (token.normalized != normalized) continue;
    tokens.push_back(token);
    std::string pattern = token.content;
    if (normalized)
      for (const NormalForm form : file.normalizers) pattern = normalise(pattern, form);
    patterns.push_back(std::move(pattern));
  }
  return AddedTokenFinder(std::move(tokens), patterns);
}

}  // namespace

struct Tokenizer::Impl {
  Impl(TokenizerFile loaded, TokenizerConfigFile config_file, std::filesystem::path dir)
      : file(std::move(loaded)),
        config(std::move(config_file)),
        model_dir(std::move(dir)),
        raw_tokens(make_finder(file, false)),
        normalized_tokens(make_finder(file, true)),
        bpe(std::move(file.bpe)) {
    for (const AddedToken& token : file.added_tokens) {
      if (!token.special) continue;
      special.resize(std::max(special.size(), static_cast<size_t>(token.id) + 1));
      special[static_cast<size_t>(token.id)] = true;
    }
    bos = named_token(config.bos_token);
    eos = named_token(config.eos_token);
    if (config.chat_format) {
      chat = chat_template_by_name(*config.chat_format);
      if (!chat)
        throw InputError(fmt::format("{}: field `chat_format`: \"{}\" is not supported (supported: {})",
                                     (model_dir / "tokenizer_config.json").string(), *config.chat_format,
                                     kChatFormatNames));
    } else if (config.chat_template) {
      chat = recognise_chat_template(*config.chat_template);
    }
  }

  std::optional<TokenId> named_token(const std::optional<std::string>& name) const {
    if (!name) return std::nullopt;
    const auto found = file.token_ids.find(*name);
    return found == file.token_ids.end() ? std::nullopt : std::optional<TokenId>(found->second);
  }

  /// Ids of text between added tokens.
  void encode_words(std::string_view text, Pieces& pieces, WordCache& cache, std::vector<TokenId>& out) const {
    pieces.views.clear();
    pieces.owned.clear();
    file.pre_tokenizer->split(text, pieces);
    for (const std::string_view piece : pieces.views) bpe.encode(piece, cache, out);
  }

  void encode_normalised(std::string_view text, Pieces& pieces, WordCache& cache, std::vector<TokenId>& out) const {
    if (normalized_tokens.empty()) return encode_words(text, pieces, cache, out);
    std::vector<AddedTokenFinder::Part> parts;
    normalized_tokens.split(text, parts);
    for (const auto& part : parts) {
      if (part.id >= 0) {
        out.push_back(part.id);
      } else {
        encode_words(part.text, pieces, cache, out);
      }
    }
  }

  TokenizerFile file;
  TokenizerConfigFile config;
  std::filesystem::path model_dir;
  AddedTokenFinder raw_tokens, normalized_tokens;
  Bpe bpe;
  std::vector<bool> special;  ///< by id
  std::optional<TokenId> bos, eos;
  std::optional<ChatTemplate> chat;
  mutable CachePool caches;
};

Tokenizer Tokenizer::load(const std::filesystem::path& model_dir) {
  return Tokenizer(std::make_shared<const Impl>(read_tokenizer_file(model_dir / "tokenizer.json"),
                                                read_tokenizer_config(model_dir), model_dir));
}

std::vector<TokenId> Tokenizer::encode(std::string_view text, bool add_special_tokens) const {
  std::string repaired;
  if (!is_valid_utf8(text)) text = repaired = replace_invalid_utf8(text);
  std::vector<TokenId> out;
  out.reserve(text.size() / 3 + 8);
  if (add_special_tokens) out = impl_->file.prefix_ids;
  CachePool::Lease cache(impl_->caches);
  Pieces pieces;
  std::vector<AddedTokenFinder::Part> parts;
  impl_->raw_tokens.split(text, parts);
  for (const auto& part : parts) {
    if (part.id >= 0) {
      out.push_back(part.id);
    } else if (impl_->file.normalizers.empty()) {
      impl_->encode_normalised(part.text, pieces, *cache, out);
    } else {
      std::string normal(part.text);
      for (const NormalForm form : impl_->file.normalizers) normal = normalise(normal, form);
      impl_->encode_normalised(normal, pieces, *cache, out);
    }
  }
  if (add_special_tokens) out.insert(out.end(), impl_->file.suffix_ids.begin(), impl_->file.suffix_ids.end());
  return out;
}

std::string_view Tokenizer::token_bytes(TokenId id) const {
  const auto& table = impl_->file.id_bytes;
  if (id < 0 || id >= vocab_size() || !table[static_cast<size_t>(id)])
    throw InputError(fmt::format("token id {} is not in the vocabulary of {} (ids 0..{})", id,
                                 (impl_->model_dir / "tokenizer.json").string(), vocab_size() - 1));
  return *table[static_cast<size_t>(id)];
}

std::string Tokenizer::decode(std::span<const TokenId> ids, bool skip_special_tokens) const {
  std::string out;
  for (const TokenId id : ids) {
    const std::string_view bytes = token_bytes(id);
    if (!skip_special_tokens || !is_special(id)) out += bytes;
  }
  return out;
}

std::string Tokenizer::render_chat(std::span<const Message> messages, bool add_generation_prompt) const {
  if (!impl_->chat)
    throw InputError(
        fmt::format("{}: {}; set `\"chat_format\": NAME` in tokenizer_config.json to the format "
                    "that the model was trained with ({}), "
                    "or write prompts as plain strings",
                    impl_->model_dir.string(),
                    impl_->config.chat_template ? "the model's chat template is not one that plural knows"
                                                : "the model has no chat template (looked in tokenizer_config.json and "
                                                  "chat_template.jinja)",
                    kChatFormatNames));
  return plural::render_chat(*impl_->chat, messages, add_generation_prompt, impl_->config.bos_token.value_or(""),
                             impl_->config.eos_token.value_or(""));
}

std::vector<TokenId> Tokenizer::encode_chat(std::span<const Message> messages, bool add_generation_prompt) const {
  return encode(render_chat(messages, add_generation_prompt));
}

bool Tokenizer::is_special(TokenId id) const {
  return id >= 0 && static_cast<size_t>(id) < impl_->special.size() && impl_->special[static_cast<size_t>(id)];
}

std::optional<TokenId> Tokenizer::id_of(std::string_view token) const { return impl_->named_token(std::string(token)); }

int64_t Tokenizer::vocab_size() const { return static_cast<int64_t>(impl_->file.id_bytes.size()); }
std::optional<TokenId> Tokenizer::eos_id() const { return impl_->eos; }
std::optional<TokenId> Tokenizer::bos_id() const { return impl_->bos; }

std::string StreamingDecoder::push(TokenId id) {
  pending_ += tokenizer_.token_bytes(id);
  const size_t whole = pending_.size() - open_utf8_suffix(pending_);
  std::string out = pending_.substr(0, whole);
  pending_.erase(0, whole);
  return out;
}

std::string StreamingDecoder::finish() { return std::exchange(pending_, {}); }

}  // namespace plural
