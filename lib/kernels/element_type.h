// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "lib/kernels/types.h"
#include "plural/tensor.h"

namespace plural::kernels {

/// The kernels' name of a tensor's dtype; CheckError for any other than float32, bfloat16 and float64.
ElementType element_type(const Tensor& tensor);

}  // namespace plural::kernels
