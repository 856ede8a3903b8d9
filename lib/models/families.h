// SPDX-License-Identifier: Apache-2.0
// What distinguishes the model families from one another: one table, one row per family. A new family that is a
// decoder with RMS norm, rotary positions, grouped attention and a gated SiLU MLP is one row in families.cpp.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace plural {

/// Whether a linear layer has a bias.
enum class BiasRule { kNever, kAlways, kConfig };

/// How config.json says which layers use a sliding window.
enum class WindowRule {
  kNone,      ///< never
  kAll,       ///< `sliding_window` applies to every layer (null: none)
  kPerLayer,  ///< `use_sliding_window`, then `layer_types` or `max_window_layers`
};

/// One family: its config.json `model_type`, its structure, and the values of fields that config.json leaves out
/// (as `transformers` defaults them; 0 = derived from the other fields).
struct ModelFamily {
  std::string model_type;
  BiasRule qkv_bias = BiasRule::kNever;
  BiasRule output_bias = BiasRule::kNever;
  BiasRule mlp_bias = BiasRule::kNever;
  bool qk_norm = false;
  WindowRule window = WindowRule::kNone;
  int64_t kv_heads = 0;        ///< default of num_key_value_heads; 0: num_attention_heads
  int64_t head_size = 0;       ///< default of head_dim; 0: hidden_size / num_attention_heads
  int64_t context_length = 0;  ///< default of max_position_embeddings
};

/// All families, in the order of the documentation.
const std::vector<ModelFamily>& model_families();
/// The family of a `model_type`, or nullptr.
const ModelFamily* find_family(const std::string& model_type);

}  // namespace plural
