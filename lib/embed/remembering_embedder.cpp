// SPDX-License-Identifier: Apache-2.0
#include "lib/embed/remembering_embedder.h"

#include <ATen/ATen.h>

#include <unordered_set>

namespace plural {

Tensor RememberingEmbedder::embed(std::span<const std::string_view> texts, at::Device device) const {
  const std::lock_guard lock(mutex_);
  const auto find_new = [&] {
    std::vector<std::string_view> found;
    std::unordered_set<std::string_view> seen;
    for (const std::string_view text : texts)
      if (!places_.contains(std::string(text)) && seen.insert(text).second) found.push_back(text);
    return found;
  };
  std::vector<std::string_view> unknown = find_new();
  const bool full = places_.size() + unknown.size() > capacity_;
  if (vectors_.defined() && (full || vectors_.device() != device)) {
    places_.clear();
    vectors_ = Tensor();
    unknown = find_new();
  }
  if (!vectors_.defined() || !unknown.empty()) {
    const Tensor added = embedder_->embed(unknown, device);
    vectors_ = vectors_.defined() ? at::cat({vectors_, added}) : added;
    for (const std::string_view text : unknown) places_.emplace(text, static_cast<int64_t>(places_.size()));
  }
  std::vector<int64_t> rows;
  for (const std::string_view text : texts) rows.push_back(places_.at(std::string(text)));
  return vectors_.index_select(0, at::tensor(rows, at::kLong).to(device));
}

}  // namespace plural
