// SPDX-License-Identifier: Apache-2.0
#include "lib/kernels/element_type.h"

#include <string>

#include "plural/error.h"

namespace plural::kernels {

ElementType element_type(const Tensor& tensor) {
  switch (tensor.scalar_type()) {
    case at::kFloat:
      return ElementType::kFloat32;
    case at::kBFloat16:
      return ElementType::kBFloat16;
    case at::kDouble:
      return ElementType::kFloat64;
    default:
      PLURAL_CHECK(
          false, std::string("kernels take float32, bfloat16 and float64, not ") + c10::toString(tensor.scalar_type()));
  }
}

}  // namespace plural::kernels
