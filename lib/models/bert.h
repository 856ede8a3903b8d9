// SPDX-License-Identifier: Apache-2.0
// BERT encoders (Devlin et al. 2019, arXiv 1810.04805) from Hugging Face folders: forward only, float32.
#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

#include "lib/models/weights.h"
#include "plural/tensor.h"

namespace plural {

struct BertConfig {
  int64_t vocab_size = 0;      ///< V
  int64_t width = 0;           ///< E, hidden_size
  int64_t mlp_width = 0;       ///< intermediate_size
  int64_t layers = 0;          ///< num_hidden_layers
  int64_t heads = 0;           ///< H, divides E
  int64_t context_length = 0;  ///< max_position_embeddings
  int64_t token_types = 0;     ///< type_vocab_size
  double norm_eps = 1e-12;     ///< layer_norm_eps
};

/// Reads config.json of a model of type "bert"; InputError names the file and the field.
BertConfig load_bert_config(const std::filesystem::path& file);

/// Immutable after loading and safe to share between threads.
class BertEncoder {
 public:
  /// Loads a folder's config.json and weights onto the CPU. Missing and misshapen tensors throw InputError naming them
  /// all; the pooler and heads of pre-training are passed over.
  static BertEncoder load(const std::filesystem::path& dir);

  /// Final hidden states [n, T, E] of n texts of T tokens each, ids [n, T] int64, 1 <= T <= context_length. All tokens
  /// are seen (no padding) and of type 0. No gradient.
  Tensor hidden(const Tensor& ids) const;
  const BertConfig& config() const { return config_; }
  at::Device device() const { return weights_.words.device(); }
  BertEncoder to(at::Device device) const;

 private:
  struct Linear {
    Tensor weight, bias;
  };
  struct Layer {
    Linear query, key, value, attended, attended_norm, up, down, norm;
  };
  struct Weights {
    Tensor words, positions, types;
    Linear norm;
    std::vector<Layer> layers;
  };

  explicit BertEncoder(const BertConfig& config);
  /// Every parameter under its checkpoint name.
  std::vector<ParameterSlot> slots();

  BertConfig config_;
  Weights weights_;
};

}  // namespace plural
