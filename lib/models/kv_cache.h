// SPDX-License-Identifier: Apache-2.0
// Keys and values of running sequences. A prompt's keys are stored once (a *prefix*) and read by every row of its
// group; each row keeps only the tokens it generated itself, in a *slot* that is reused when the row is done.
#pragma once

#include <cstdint>
#include <unordered_map>
#include <vector>

#include "plural/tensor.h"
#include "plural/transformer.h"

namespace plural {

/// Not thread-safe. Keys are stored after rotary embedding (and QK norm), so attention reads them as they are.
class KvCache {
 public:
  /// Room for `max_rows` rows of up to `row_capacity` generated tokens each, allocated at once.
  KvCache(const TransformerConfig& config, int64_t max_rows, int64_t row_capacity, at::Device device,
          at::ScalarType dtype);

  int64_t layers() const { return static_cast<int64_t>(row_keys_.size()); }
  int64_t max_rows() const { return max_rows_; }
  int64_t row_capacity() const { return row_capacity_; }
  at::Device device() const { return device_; }
  at::ScalarType dtype() const { return dtype_; }

  /// Stores one layer of prefix number `prefix` (any number >= 0, chosen by the caller); written by prefill.
  /// keys, values: [Hkv, S, D], made contiguous. An existing prefix of that number is replaced.
  void set_prefix(int64_t prefix, int64_t layer, const Tensor& keys, const Tensor& values);
  bool has_prefix(int64_t prefix) const { return prefixes_.count(prefix) != 0; }
  /// Frees the prompt's memory; no live slot may still be assigned to it.
  void drop_prefix(int64_t prefix);
  int64_t prefix_length(int64_t prefix) const;                       ///< S
  const Tensor& prefix_keys(int64_t prefix, int64_t layer) const;    ///< [Hkv, S, D] contiguous
  const Tensor& prefix_values(int64_t prefix, int64_t layer) const;  ///< [Hkv, S, D] contiguous

  /// Starts a row in `slot` (0 <= slot < max_rows) after `prefix`, with no tokens of its own.
  void assign(int64_t slot, int64_t prefix);
  /// The row is done; its slot may be assigned again.
  void release(int64_t slot);
  /// The prefix of a slot, or -1 when the slot is free.
  int64_t prefix_of(int64_t slot) const { return slot_prefix_.at(slot); }
  /// Tokens the row has appended so far.
  int64_t own_length(int64_t slot) const { return slot_length_.at(slot); }
  /// Prefix and own tokens together: the position of the row's next token.
  int64_t total_length(int64_t slot) const;

  /// The whole row storage of a layer: [max_rows, Hkv, row_capacity, D]; row `slot` is valid up to own_length.
  const Tensor& row_keys(int64_t layer) const { return row_keys_.at(layer); }
  const Tensor& row_values(int64_t layer) const { return row_values_.at(layer); }

  /// Writes one token of each row at place own_length: slots, places [R] int64 on the device, keys and values
  /// [R, Hkv, D]. Called by decode once a layer; `advance` afterwards, once a step.
  void write(int64_t layer, const Tensor& slots, const Tensor& places, const Tensor& keys, const Tensor& values);
  /// own_length + 1 for each of `slots`.
  void advance(const std::vector<int64_t>& slots);

 private:
  struct Prefix {
    int64_t length = 0;
    int64_t users = 0;                 // live slots that read it
    std::vector<Tensor> keys, values;  // [layer]: [Hkv, S, D]
  };
  const Prefix& prefix(int64_t number) const;

  int64_t max_rows_, row_capacity_, kv_heads_, head_size_;
  at::Device device_;
  at::ScalarType dtype_;
  std::vector<Tensor> row_keys_, row_values_;  // [layer]: [max_rows, Hkv, row_capacity, D]
  std::vector<int64_t> slot_prefix_, slot_length_;
  std::unordered_map<int64_t, Prefix> prefixes_;
};

}  // namespace plural
