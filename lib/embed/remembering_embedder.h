// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>

#include "plural/embedder.h"

namespace plural {

/// Another embedder, asked once for each text: rewards of one stack, subsets of one set and later steps all ask for the
/// same answers. Thread-safe.
class RememberingEmbedder final : public Embedder {
 public:
  /// Forgets everything when it would hold more than `capacity` texts.
  RememberingEmbedder(std::unique_ptr<Embedder> embedder, size_t capacity)
      : embedder_(std::move(embedder)), capacity_(capacity) {}
  std::string name() const override { return embedder_->name(); }
  Tensor embed(std::span<const std::string_view> texts, at::Device device) const override;

 private:
  std::unique_ptr<Embedder> embedder_;
  size_t capacity_;
  mutable std::mutex mutex_;
  mutable std::unordered_map<std::string, int64_t> places_;  ///< text -> row of vectors_
  mutable Tensor vectors_;                                   ///< [places, E] on the device last asked for
};

}  // namespace plural
