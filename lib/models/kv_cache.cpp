// SPDX-License-Identifier: Apache-2.0
#include "lib/models/kv_cache.h"

#include <ATen/ATen.h>

#include "lib/core/format.h"
#include "lib/kernels/cache_append/cache_append.h"
#include "plural/error.h"

namespace plural {

KvCache::KvCache(const TransformerConfig& config, int64_t max_rows, int64_t row_capacity, at::Device device,
                 at::ScalarType dtype)
    : max_rows_(max_rows),
      row_capacity_(row_capacity),
      kv_heads_(config.kv_heads),
      head_size_(config.head_size),
      device_(device),
      dtype_(dtype),
      slot_prefix_(max_rows, -1),
      slot_length_(max_rows, 0) {
  PLURAL_CHECK(max_rows > 0 && row_capacity > 0, "a KV cache needs room for at least one row of one token");
  const auto options = at::TensorOptions().device(device).dtype(dtype);
  for (int64_t layer = 0; layer < config.layers; ++layer) {
    row_keys_.push_back(at::empty({max_rows, kv_heads_, row_capacity, head_size_}, options));
    row_values_.push_back(at::empty({max_rows, kv_heads_, row_capacity, head_size_}, options));
  }
}

void KvCache::set_prefix(int64_t number, int64_t layer, const Tensor& keys, const Tensor& values) {
  PLURAL_CHECK(number >= 0 && layer >= 0 && layer < layers(),
               fmt::format("prefix {}, layer {} of {} layers", number, layer, layers()));
  PLURAL_CHECK(
      keys.dim() == 3 && keys.size(0) == kv_heads_ && keys.size(2) == head_size_ && keys.sizes() == values.sizes(),
      "keys and values of a prefix are [Hkv, S, D]");
  Prefix& entry = prefixes_[number];
  PLURAL_CHECK(entry.users == 0, fmt::format("prefix {} is still read by {} rows", number, entry.users));
  entry.keys.resize(layers());
  entry.values.resize(layers());
  entry.length = keys.size(1);
  entry.keys[layer] = keys.contiguous();
  entry.values[layer] = values.contiguous();
}

const KvCache::Prefix& KvCache::prefix(int64_t number) const {
  const auto it = prefixes_.find(number);
  PLURAL_CHECK(it != prefixes_.end(), fmt::format("prefix {} is not in the cache", number));
  return it->second;
}

void KvCache::drop_prefix(int64_t number) {
  const int64_t users = prefix(number).users;
  PLURAL_CHECK(users == 0, fmt::format("prefix {} is still read by {} rows", number, users));
  prefixes_.erase(number);
}

int64_t KvCache::prefix_length(int64_t number) const { return prefix(number).length; }

const Tensor& KvCache::prefix_keys(int64_t number, int64_t layer) const { return prefix(number).keys.at(layer); }

const Tensor& KvCache::prefix_values(int64_t number, int64_t layer) const { return prefix(number).values.at(layer); }

void KvCache::assign(int64_t slot, int64_t number) {
  PLURAL_CHECK(slot >= 0 && slot < max_rows_, fmt::format("slot {} of {}", slot, max_rows_));
  PLURAL_CHECK(slot_prefix_[slot] < 0, fmt::format("slot {} is in use; release it first", slot));
  prefix(number);  // throws when it is missing
  ++prefixes_[number].users;
  slot_prefix_[slot] = number;
  slot_length_[slot] = 0;
}

void KvCache::release(int64_t slot) {
  PLURAL_CHECK(slot >= 0 && slot < max_rows_ && slot_prefix_[slot] >= 0, fmt::format("slot {} is not in use", slot));
  --prefixes_[slot_prefix_[slot]].users;
  slot_prefix_[slot] = -1;
  slot_length_[slot] = 0;
}

int64_t KvCache::total_length(int64_t slot) const {
  return prefix_length(slot_prefix_.at(slot)) + slot_length_.at(slot);
}

void KvCache::write(int64_t layer, const Tensor& slots, const Tensor& places, const Tensor& keys,
                    const Tensor& values) {
  kernels::cache_append_(row_keys_.at(layer), row_values_.at(layer), slots, places, keys, values);
}

void KvCache::advance(const std::vector<int64_t>& slots) {
  for (const int64_t slot : slots) {
    PLURAL_CHECK(slot_prefix_.at(slot) >= 0 && slot_length_[slot] < row_capacity_,
                 fmt::format("slot {} has {} tokens of {}, prefix {}", slot, slot_length_[slot], row_capacity_,
                             slot_prefix_[slot]));
    ++slot_length_[slot];
  }
}

}  // namespace plural
