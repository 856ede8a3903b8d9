// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "plural/tensor.h"

namespace plural {

/// E over w ~ Dirichlet(1, ..., 1) of max over the kept answers of w . value: [B] float64 from value [B, K, C] and keep
/// [B, K] bool; an empty set is worth 0. Exact for C = 1 and 2 (the upper envelope of lines over [0, 1], O(K^3)); else
/// the mean over `draws` points of a Sobol sequence, the same for every row.
Tensor expected_best(const Tensor& value, const Tensor& keep, int64_t draws);

}  // namespace plural
