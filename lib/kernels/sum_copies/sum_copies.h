// SPDX-License-Identifier: Apache-2.0
// Rows that were copied to several places, summed back: the gradient of x.index_select(0, index) in a fixed order.
#pragma once

#include "plural/tensor.h"

namespace plural::kernels {

/// out[n] = sum of copies[place[i]] for begin[n] <= i < begin[n + 1], in float32 (float64), rounded once: [N, C] in the
/// dtype of copies [P, C]. begin [N + 1] rising from 0 to at most P, place int64 in [0, P), all on one device. The same
/// bits every time (index_add_ on a GPU adds in any order, and in bfloat16). Without gradient.
Tensor sum_copies(const Tensor& copies, const Tensor& begin, const Tensor& place);

}  // namespace plural::kernels
