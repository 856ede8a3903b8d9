// SPDX-License-Identifier: Apache-2.0
// The bundled policy: decoder-only transformers (Llama/SmolLM2/Mistral, Qwen2/2.5, Qwen3) from Hugging
// Face folders. Sampling and training run the same forward over the same tensors.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "plural/policy.h"

namespace plural {

enum class RopeScaling { kNone, kLinear, kLlama3, kYarn };

/// The architecture of config.json, families folded into one description.
struct TransformerConfig {
  std::string model_type;  ///< "llama", "mistral", "qwen2", "qwen3"
  int64_t vocab_size = 0;  ///< V
  int64_t width = 0;       ///< E, hidden_size
  int64_t mlp_width = 0;   ///< intermediate_size
  int64_t layers = 0;
  int64_t heads = 0;           ///< H
  int64_t kv_heads = 0;        ///< divides H
  int64_t head_size = 0;       ///< D, may differ from E / H
  int64_t context_length = 0;  ///< max_position_embeddings
  double rms_eps = 1e-6;
  double rope_theta = 10000.0;
  RopeScaling rope_scaling = RopeScaling::kNone;
  double rope_factor = 1.0, rope_low_freq_factor = 1.0, rope_high_freq_factor = 4.0;
  double rope_beta_fast = 32.0, rope_beta_slow = 1.0, rope_attention_factor = 0.0;  ///< 0 = derived (yarn)
  double rope_mscale = 0.0, rope_mscale_all_dim = 0.0;
  bool rope_truncate = true;
  int64_t rope_original_context = 0;
  bool tied_embeddings = false;
  bool attention_bias = false;         ///< bias on q, k, v
  bool attention_output_bias = false;  ///< bias on o
  bool mlp_bias = false;
  bool qk_norm = false;            ///< RMS norm of each head's q and k (Qwen3)
  int64_t sliding_window = 0;      ///< 0 = full attention
  std::vector<bool> layer_slides;  ///< which layers use the window (size layers when sliding_window > 0)
  std::vector<int64_t> eos_ids;    ///< ids that end a text: generation_config.json's, else config.json's
  std::string source_json;         ///< config.json as read; written back unchanged by save
};

/// Reads and validates config.json; InputError names the file and the field.
TransformerConfig load_transformer_config(const std::filesystem::path& config_json);

class KvCache;  // lib/models/kv_cache.h

class TransformerPolicy final : public Policy {
 public:
  /// Loads a Hugging Face folder onto `device` in `dtype` (float32, bfloat16 or float64).
  /// Missing, surplus or misshapen tensors and bad safetensors headers throw InputError naming the tensor.
  static std::unique_ptr<TransformerPolicy> load(const std::filesystem::path& dir, at::Device device,
                                                 at::ScalarType dtype);
  /// Random initialisation (normal, std 0.02; norms 1, biases 0), a pure function of (config, seed).
  static std::unique_ptr<TransformerPolicy> init(const TransformerConfig& config, uint64_t seed, at::Device device,
                                                 at::ScalarType dtype);
  ~TransformerPolicy() override;

  PolicyOutput evaluate(const PackedBatch& batch, const EvaluateOptions& options) override;
  NamedTensors named_parameters() override;
  std::unique_ptr<Policy> frozen_copy() const override;
  /// Tokenizer and generation_config files are copied from the folder it was loaded from.
  void save(const std::filesystem::path& dir) const override;
  at::Device device() const override;
  int64_t context_length() const override;
  int64_t vocab_size() const override;

  const TransformerConfig& config() const;
  at::ScalarType dtype() const;

  /// The trunk: final-norm hidden states [N, E] of a packed batch.
  Tensor hidden(const PackedBatch& batch) override;
  /// Logits [n, V] float32 of hidden states [n, E]; small n only.
  Tensor logits(const Tensor& hidden);
  /// Prefill: runs packed prompts (segments without parents), stores each segment's keys and values in
  /// `cache` as prefix number `first_prefix + i`, and returns the last token's hidden state of each, [P, E].
  Tensor prefill(const PackedBatch& batch, KvCache& cache, int64_t first_prefix);
  /// Decode: one token a live row, appended to the row's own keys and values. ids, positions [R] int64;
  /// slots [R] the cache rows. Returns hidden states [R, E].
  Tensor decode(const Tensor& ids, const Tensor& positions, const std::vector<int64_t>& slots, KvCache& cache);
  /// While the result lives, decode() and logits() multiply by copies of the weights that the CPU reads faster in
  /// bfloat16: the same numbers, bit for bit, sooner. The weights must not change meanwhile. Costs a pass over the
  /// weights and their memory once more; null, and nothing happens, on other devices, in other dtypes, and where the
  /// copies would take more than 4 GB.
  std::shared_ptr<const void> prepack();
  /// Every parameter keeps its tensor; values are replaced (used by tests and by resume).
  void load_values(const NamedTensors& values);

 private:
  struct Impl;
  explicit TransformerPolicy(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace plural
