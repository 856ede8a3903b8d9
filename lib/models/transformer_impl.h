// SPDX-License-Identifier: Apache-2.0
// What a TransformerPolicy holds.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>

#include "lib/models/prepack.h"
#include "lib/models/rope.h"
#include "lib/models/weights.h"
#include "plural/transformer.h"

namespace plural {

struct TransformerPolicy::Impl {
  TransformerConfig config;
  TransformerWeights weights;
  Rotary frequencies;
  at::ScalarType dtype = at::kFloat;
  std::filesystem::path source_dir;                 ///< tokenizer files are copied from here; empty: none
  std::weak_ptr<const PrepackedWeights> prepacked;  ///< while someone holds what prepack() gave them

  Impl(const TransformerConfig& config, at::Device device, at::ScalarType dtype);

  /// The window of a layer, 0 when it sees everything.
  int64_t window(int64_t layer) const;
  /// Packed forward -> final-norm states [N, E]. `keep_keys(layer, k, v)` sees each layer's rotated keys and values,
  /// [N, Hkv, D]; may be empty.
  Tensor run(const PackedBatch& batch, const std::function<void(int64_t, const Tensor&, const Tensor&)>& keep_keys);
};

}  // namespace plural
