// SPDX-License-Identifier: Apache-2.0
// The tensor alias and the shape letters that every tensor comment in plural uses.
//
//   P  prompts            G  samples per prompt     B  rows = P*G, group-major
//   K  answers per row    S  prompt tokens          T  completion tokens      L = S+T
//   V  vocabulary         E  width                  H  heads                  D  head size
//   N  packed tokens of a batch                     M  scored (predicted) tokens of a batch
#pragma once

#include <ATen/core/Tensor.h>

#include <initializer_list>
#include <string>

namespace plural {

using at::Tensor;

/// One entry of check_shapes: a name for messages, the tensor, and its shape in letters, e.g. "B K".
/// A number stands for itself; an undefined tensor passes only when `optional` is set.
struct ShapeCheck {
  const char* name;
  const Tensor& tensor;
  const char* shape;
  bool optional = false;
};

/// Binds every letter across all entries; on conflict throws CheckError that prints the whole table.
void check_shapes(std::initializer_list<ShapeCheck> checks);

}  // namespace plural
