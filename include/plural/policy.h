// SPDX-License-Identifier: Apache-2.0
// A policy gives log-probabilities of tokens, with gradient. Batches are packed: no padding, and a prompt
// shared by several completions stands in the batch once.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "plural/tensor.h"
#include "plural/tokenizer.h"

namespace plural {

/// A run of consecutive packed tokens. It attends causally to itself and fully to its parent's chain.
struct Segment {
  int64_t begin = 0;  ///< first index into the packed tokens
  int64_t length = 0;
  int64_t parent = -1;  ///< index of the segment that precedes this one in its sequence, or -1. Parents come first.
};

/// N tokens of several sequences, and the M predictions to score.
struct PackedBatch {
  Tensor ids;                     ///< [N] int64
  Tensor positions;               ///< [N] int64: place in the token's own sequence (rotary positions)
  std::vector<Segment> segments;  ///< cover the N tokens in order
  Tensor source;                  ///< [M] int64: packed index of the token whose output predicts `target`
  Tensor target;                  ///< [M] int64: token id predicted
  int64_t tokens() const;         ///< N
  int64_t predictions() const;    ///< M
  PackedBatch to(at::Device device) const;
};

/// One row to pack. Rows that are neighbours and have equal prompts share the prompt's tokens.
struct PackRow {
  std::span<const TokenId> prompt;      ///< S >= 1 tokens, not scored
  std::span<const TokenId> completion;  ///< T tokens, all scored; T = 0 is allowed
};
/// Packs rows in order; predictions come out row by row, so row r owns the T_r predictions after those
/// of the rows before it. With `share_prompts` false every row carries its own prompt (same results).
PackedBatch pack_rows(std::span<const PackRow> rows, bool share_prompts = true);

struct EvaluateOptions {
  double temperature = 1.0;  ///< logits are divided by it; > 0
  bool entropy = false;      ///< also return the entropy of each predicted distribution
};

struct PolicyOutput {
  Tensor log_prob;  ///< [M] float32 (float64 for a float64 policy), nats: ln p(target | tokens before)
  Tensor entropy;   ///< [M], nats, same dtype, no gradient unless asked; undefined when not asked
};

using NamedTensors = std::vector<std::pair<std::string, Tensor>>;

/// Token log-probs with gradient; knows nothing of rewards. Movable, not copyable, one thread at a time.
class Policy {
 public:
  virtual ~Policy() = default;
  /// Gradient follows the caller's grad mode. Cost: one forward; [tokens, V] is never materialised whole.
  virtual PolicyOutput evaluate(const PackedBatch& batch, const EvaluateOptions& options) = 0;
  /// Final hidden states [N, E] of a packed batch, what the head sees; undefined (the default) for a policy without
  /// such. Gradient follows the caller's grad mode.
  virtual Tensor hidden(const PackedBatch& batch) { return {}; }
  /// Trainable parameters under their checkpoint names (leaves; `.grad()` is filled by backward).
  virtual NamedTensors named_parameters() = 0;
  /// A copy without gradients, for KL against a reference.
  virtual std::unique_ptr<Policy> frozen_copy() const = 0;
  /// Writes a Hugging Face folder (config.json, model.safetensors, tokenizer files).
  virtual void save(const std::filesystem::path& dir) const = 0;
  virtual at::Device device() const = 0;
  virtual int64_t context_length() const = 0;
  virtual int64_t vocab_size() const = 0;
};

}  // namespace plural
