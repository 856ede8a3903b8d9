// SPDX-License-Identifier: Apache-2.0
#include "lib/text/bpe.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <queue>

namespace plural {
namespace {

constexpr uint64_t kEmpty = ~uint64_t{0};
constexpr uint64_t kMultiplier = 0x9E3779B97F4A7C15ULL;

uint64_t pair_key(int32_t left, int32_t right) {
  return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
}

uint64_t hash_bytes(std::string_view bytes) {
  uint64_t hash = bytes.size() * kMultiplier;
  const char* at = bytes.data();
  size_t left = bytes.size();
  const auto mix = [&hash](uint64_t word) {
    hash = (hash ^ word) * kMultiplier;
    hash ^= hash >> 29;
  };
  for (; left >= 8; at += 8, left -= 8) {
    uint64_t word;
    std::memcpy(&word, at, 8);
    mix(word);
  }
  uint64_t word = 0;
  std::memcpy(&word, at, left);
  mix(word);
  return hash * kMultiplier;
}

}  // namespace

Bpe::Bpe(BpeTables tables) : unk_id_(tables.unk_id), fuse_unk_(tables.fuse_unk) {
  for (int byte = 0; byte < 256; ++byte) {
    const auto found = tables.vocab.find(std::string(1, static_cast<char>(byte)));
    byte_ids_[byte] = found == tables.vocab.end() ? -1 : found->second;
  }
  const size_t slots = std::bit_ceil(std::max<size_t>(2, tables.merges.size() * 2));
  shift_ = 64 - std::countr_zero(slots);
  merges_.assign(slots, Entry{kEmpty, 0, 0});
  int32_t rank = 0;
  for (const BpeTables::Merge& merge : tables.merges) {
    const uint64_t pair = pair_key(merge.left, merge.right);
    size_t at = pair * kMultiplier >> shift_;
    while (merges_[at].pair != kEmpty && merges_[at].pair != pair) at = (at + 1) & (slots - 1);
    merges_[at] = {pair, rank++, merge.merged};
  }
  if (tables.ignore_merges) whole_words_ = std::move(tables.vocab);
}

const Bpe::Entry* Bpe::find_merge(int32_t left, int32_t right) const {
  const uint64_t pair = pair_key(left, right);
  for (size_t at = pair * kMultiplier >> shift_;; at = (at + 1) & (merges_.size() - 1)) {
    if (merges_[at].pair == pair) return &merges_[at];
    if (merges_[at].pair == kEmpty) return nullptr;
  }
}

void Bpe::encode(std::string_view word, WordCache& cache, std::vector<int64_t>& out) const {
  if (word.empty()) return;
  WordCache::Slot* slot = nullptr;
  uint64_t hash = 0;
  if (word.size() <= WordCache::kMaxBytes) {
    hash = hash_bytes(word);
    slot = &cache.slot(hash);
    if (slot->hash == hash && slot->size == word.size() && std::memcmp(slot->bytes, word.data(), word.size()) == 0) {
      out.insert(out.end(), slot->ids, slot->ids + slot->count);
      return;
    }
  }
  std::vector<int32_t> symbols;
  encode_uncached(word, symbols);
  out.insert(out.end(), symbols.begin(), symbols.end());
  if (slot != nullptr && symbols.size() <= WordCache::kMaxIds) {
    slot->hash = hash;
    slot->size = static_cast<uint16_t>(word.size());
    slot->count = static_cast<uint16_t>(symbols.size());
    std::memcpy(slot->bytes, word.data(), word.size());
    std::copy(symbols.begin(), symbols.end(), slot->ids);
  }
}

void Bpe::encode_uncached(std::string_view word, std::vector<int32_t>& symbols) const {
  if (!whole_words_.empty()) {
    const auto found = whole_words_.find(std::string(word));
    if (found != whole_words_.end()) {
      symbols.push_back(found->second);
      return;
    }
  }
  symbols.reserve(word.size());
  bool after_unk = false;
  for (const char c : word) {
    const int32_t id = byte_ids_[static_cast<unsigned char>(c)];
    if (id >= 0) {
      symbols.push_back(id);
    } else if (unk_id_ && !(fuse_unk_ && after_unk)) {
      symbols.push_back(*unk_id_);
    }
    after_unk = id < 0;
  }
  // The scan is quadratic but has no bookkeeping: faster for nearly all words.
  constexpr size_t kScanLimit = 48;
  if (symbols.size() <= kScanLimit) {
    merge_by_scan(symbols);
  } else {
    merge_by_heap(symbols);
  }
}

void Bpe::merge_by_scan(std::vector<int32_t>& symbols) const {
  // merges[i] belongs to the pair (symbols[i], symbols[i + 1]).
  std::vector<const Entry*> merges;
  merges.reserve(symbols.size());
  for (size_t i = 0; i + 1 < symbols.size(); ++i) merges.push_back(find_merge(symbols[i], symbols[i + 1]));
  while (true) {
    size_t best = merges.size();
    for (size_t i = 0; i < merges.size(); ++i)
      if (merges[i] != nullptr && (best == merges.size() || merges[i]->rank < merges[best]->rank)) best = i;
    if (best == merges.size()) return;
    const auto at = static_cast<std::ptrdiff_t>(best);
    symbols[best] = merges[best]->merged;
    symbols.erase(symbols.begin() + at + 1);
    merges.erase(merges.begin() + at);
    if (best < merges.size()) merges[best] = find_merge(symbols[best], symbols[best + 1]);
    if (best > 0) merges[best - 1] = find_merge(symbols[best - 1], symbols[best]);
  }
}

void Bpe::merge_by_heap(std::vector<int32_t>& symbols) const {
  struct Candidate {
    int32_t rank;
    uint32_t at;  ///< index of the left symbol
    int32_t left, right, merged;
    bool operator>(const Candidate& other) const { return rank != other.rank ? rank > other.rank : at > other.at; }
  };
  constexpr uint32_t kNone = ~uint32_t{0};
  const auto size = static_cast<uint32_t>(symbols.size());
  // A doubly linked list over the symbols; a merged-away right symbol holds -1.
  std::vector<uint32_t> next(size), previous(size);
  for (uint32_t i = 0; i < size; ++i) {
    next[i] = i + 1 < size ? i + 1 : kNone;
    previous[i] = i > 0 ? i - 1 : kNone;
  }
  std::vector<Candidate> initial;
  initial.reserve(size);
  const auto candidate = [&](uint32_t at, auto&& put) {
    const int32_t left = symbols[at];
    const int32_t right = symbols[next[at]];
    if (const Entry* merge = find_merge(left, right)) put(Candidate{merge->rank, at, left, right, merge->merged});
  };
  for (uint32_t i = 0; i + 1 < size; ++i) candidate(i, [&](Candidate c) { initial.push_back(c); });
  std::priority_queue<Candidate, std::vector<Candidate>, std::greater<>> heap(std::greater<>(), std::move(initial));
  while (!heap.empty()) {
    const Candidate top = heap.top();
    heap.pop();
    if (symbols[top.at] != top.left) continue;  // merged away, or grown since
    const uint32_t right = next[top.at];
    if (right == kNone || symbols[right] != top.right) continue;
    symbols[top.at] = top.merged;
    symbols[right] = -1;
    next[top.at] = next[right];
    if (next[right] != kNone) previous[next[right]] = top.at;
    const auto push = [&](Candidate c) { heap.push(c); };
    if (next[top.at] != kNone) candidate(top.at, push);
    if (previous[top.at] != kNone) candidate(previous[top.at], push);
  }
  std::erase(symbols, -1);
}

}  // namespace plural
