// SPDX-License-Identifier: Apache-2.0
// Byte-pair encoding of one pre-tokenised word. Symbols are raw bytes: the printable alphabet in
// which tokenizer.json spells them is undone when the file is read.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace plural {

/// What tokenizer.json says about a BPE model, in bytes and ids.
struct BpeTables {
  struct Merge {
    int32_t left, right, merged;
  };
  std::unordered_map<std::string, int32_t> vocab;  ///< bytes -> id
  std::vector<Merge> merges;                       ///< in order of rank; of a repeated pair the last one counts
  bool ignore_merges = false;                      ///< a word that is a token stays whole (Llama 3)
  std::optional<int32_t> unk_id;                   ///< for bytes without a token; without it they vanish
  bool fuse_unk = false;
};

/// The ids of words met before, so that merging runs once per distinct word. A fixed number of
/// slots; a newer word replaces an older one. Not thread-safe: each call of encode borrows one.
class WordCache {
 public:
  static constexpr size_t kMaxBytes = 36;
  static constexpr size_t kMaxIds = 6;
  struct Slot {
    uint64_t hash = 0;
    uint16_t size = 0;  ///< bytes; 0 = empty
    uint16_t count = 0;
    char bytes[kMaxBytes];
    int32_t ids[kMaxIds];
  };
  WordCache() : slots_(kSlots) {}
  Slot& slot(uint64_t hash) { return slots_[hash >> (64 - kSlotBits)]; }

 private:
  static constexpr int kSlotBits = 14;
  static constexpr size_t kSlots = size_t{1} << kSlotBits;
  std::vector<Slot> slots_;
};

/// Immutable after construction; safe to share between threads.
class Bpe {
 public:
  explicit Bpe(BpeTables tables);

  /// Appends the ids of `word` (any bytes). O(n log n) in its length, O(1) for words in the cache.
  void encode(std::string_view word, WordCache& cache, std::vector<int64_t>& out) const;

 private:
  struct Entry {
    uint64_t pair;  ///< left << 32 | right
    int32_t rank, merged;
  };
  const Entry* find_merge(int32_t left, int32_t right) const;
  void encode_uncached(std::string_view word, std::vector<int32_t>& symbols) const;
  void merge_by_scan(std::vector<int32_t>& symbols) const;
  void merge_by_heap(std::vector<int32_t>& symbols) const;

  std::unordered_map<std::string, int32_t> whole_words_;  ///< only with ignore_merges
  std::vector<Entry> merges_;                             ///< open addressing, a power of two of slots
  int shift_ = 0;
  int32_t byte_ids_[256];  ///< -1: no token
  std::optional<int32_t> unk_id_;
  bool fuse_unk_;
};

}  // namespace plural
