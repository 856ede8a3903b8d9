// SPDX-License-Identifier: Apache-2.0
// What the kernels' parameter structs share with CUDA files, which see no torch header.
#pragma once

#include <cstdint>

namespace plural::kernels {

/// Element type of a raw pointer.
enum class ElementType : int32_t { kFloat32, kBFloat16, kFloat64 };

}  // namespace plural::kernels
