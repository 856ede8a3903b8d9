// SPDX-License-Identifier: Apache-2.0
// Weights in the layout of the CPU's bfloat16 products.
//
// oneDNN reads bfloat16 weights in blocks. A plain product lays the weight out anew each time, which is nothing next to
// a product with thousands of rows, but takes as long as one with the few rows of a decoding step. Decoding uses the
// same weights hundreds of times, so it has them laid out once. The products are the same, bit for bit.
#pragma once

#include <memory>
#include <vector>

#include "lib/models/weights.h"

namespace plural {

/// Opaque tensors, good for prepacked_linear only.
struct PrepackedWeights {
  struct Layer {
    Tensor qkv, o, gate_up, down;
  };
  std::vector<Layer> layers;
  Tensor head;
};

/// Copies of what decoding multiplies by; null where they would gain nothing (other devices and dtypes, processors
/// without these products) or take more than 4 GB. Cost: one pass over the weights.
std::shared_ptr<const PrepackedWeights> prepack_weights(const TransformerWeights& weights);

/// x W^T + b: x [N, in], bias [out] or undefined, of a prepacked W [out, in]. No gradient.
Tensor prepacked_linear(const Tensor& x, const Tensor& prepacked, const Tensor& bias);

}  // namespace plural
