// SPDX-License-Identifier: Apache-2.0
// Sentence embeddings by a BERT encoder, such as all-MiniLM-L6-v2 (Reimers and Gurevych 2019, arXiv 1908.10084).
#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <fstream>
#include <map>
#include <mutex>
#include <nlohmann/json.hpp>

#include "lib/core/format.h"
#include "lib/embed/embedders.h"
#include "lib/embed/remembering_embedder.h"
#include "lib/models/bert.h"
#include "lib/models/config_fields.h"
#include "lib/text/wordpiece.h"
#include "plural/error.h"

namespace plural {
namespace {

namespace fs = std::filesystem;

/// Texts whose vectors are kept: 100 MB at 384 numbers each.
constexpr size_t kRemembered = 65'536;
/// Tokens of one forward pass.
constexpr int64_t kBatchTokens = 8192;

/// A settings file of the sentence-transformers library; an empty object where there is none.
nlohmann::json read_settings(const fs::path& file) {
  std::ifstream stream(file, std::ios::binary);
  if (!stream) return nlohmann::json::object();
  auto root = nlohmann::json::parse(stream, nullptr, /*allow_exceptions=*/false);
  if (!root.is_object()) throw InputError(fmt::format("{}: is not a JSON object", file.string()));
  return root;
}

/// The mean of the final hidden states of all tokens, [CLS] and [SEP] included, divided by its length.
class MiniLm final : public Embedder {
 public:
  struct Options {
    std::string path;
    template <class V>
    void fields(V& v) {
      v.field("path", path, required_value(), "folder of the encoder: config.json, tokenizer.json, model.safetensors");
    }
  };

  explicit MiniLm(const Options& options)
      : tokenizer_(WordPiece::load(options.path)),
        encoder_(BertEncoder::load(options.path)),
        max_length_(encoder_.config().context_length) {
    const fs::path dir = options.path;
    const fs::path settings_file = dir / "sentence_bert_config.json", pooling_file = dir / "1_Pooling" / "config.json";
    const nlohmann::json settings = read_settings(settings_file), pooling = read_settings(pooling_file);
    max_length_ = std::min(max_length_,
                           ConfigFields(settings, settings_file.string()).positive("max_seq_length", max_length_));
    const ConfigFields pool(pooling, pooling_file.string());
    if (!pool.boolean("pooling_mode_mean_tokens", true))
      pool.fail("pooling_mode_mean_tokens", "only encoders whose vectors are the mean of the tokens are supported");
    for (const char* other : {"pooling_mode_cls_token", "pooling_mode_max_tokens", "pooling_mode_mean_sqrt_len_tokens"})
      if (pool.boolean(other, false)) pool.fail(other, "is not supported beside pooling_mode_mean_tokens");
    if (tokenizer_.vocab_size() > encoder_.config().vocab_size)
      throw InputError(
          fmt::format("{}: the tokenizer has {} ids, the encoder's vocabulary holds {}: they do not belong together",
                      options.path, tokenizer_.vocab_size(), encoder_.config().vocab_size));
    empty_ = static_cast<int64_t>(tokenizer_.encode("", max_length_).size());
  }

  std::string name() const override { return "minilm"; }

  Tensor embed(std::span<const std::string_view> texts, at::Device device) const override {
    const at::NoGradGuard no_grad;
    const BertEncoder encoder = encoder_on(device);
    Tensor vectors = at::zeros({static_cast<int64_t>(texts.size()), encoder.config().width},
                               at::TensorOptions().dtype(at::kFloat).device(device));
    // Texts of equal length go together: nothing is padded, so nothing is masked.
    std::map<int64_t, std::vector<int64_t>> texts_of_length;
    std::vector<std::vector<TokenId>> ids;
    for (const std::string_view text : texts) {
      ids.push_back(tokenizer_.encode(text, max_length_));
      const auto length = static_cast<int64_t>(ids.back().size());
      if (length > empty_) texts_of_length[length].push_back(static_cast<int64_t>(ids.size()) - 1);
    }
    for (const auto& [length, members] : texts_of_length) {
      const auto batch = static_cast<size_t>(std::max<int64_t>(1, kBatchTokens / length));
      for (size_t first = 0; first < members.size(); first += batch) {
        const std::span rows = std::span(members).subspan(first, std::min(batch, members.size() - first));
        std::vector<TokenId> flat;
        for (const int64_t row : rows)
          flat.insert(flat.end(), ids[static_cast<size_t>(row)].begin(), ids[static_cast<size_t>(row)].end());
        const Tensor mean = encoder.hidden(at::tensor(flat, at::kLong).view({-1, length}).to(device)).mean(1);
        vectors.index_copy_(0, at::tensor(std::vector<int64_t>(rows.begin(), rows.end()), at::kLong).to(device),
                            mean / mean.norm(2, 1, true).clamp_min(1e-12));
      }
    }
    return vectors;
  }

 private:
  /// The encoder moves to the device that is asked for, and stays there.
  BertEncoder encoder_on(at::Device device) const {
    const std::lock_guard lock(mutex_);
    if (encoder_.device() != device) encoder_ = encoder_.to(device);
    return encoder_;
  }

  WordPiece tokenizer_;
  mutable std::mutex mutex_;
  mutable BertEncoder encoder_;
  int64_t max_length_ = 0;  ///< tokens of the longest text, special ones included
  int64_t empty_ = 0;       ///< tokens of a text without words
};

}  // namespace

void add_minilm(Registry<Embedder>& registry) {
  registry.add(
      "minilm", "likeness of meaning by a BERT encoder such as all-MiniLM-L6-v2",
      [](const ConfigNode& node) {
        return std::make_unique<RememberingEmbedder>(
            std::make_unique<MiniLm>(read_options<MiniLm::Options>(node, "embedder")), kRemembered);
      },
      describe_options<MiniLm::Options>());
}

}  // namespace plural
