// SPDX-License-Identifier: Apache-2.0
// The raw form of RMS norm for its CUDA twin: pointers only, no torch header. Everything is contiguous.
#pragma once

#include <cstdint>

#include "lib/kernels/types.h"

namespace plural::kernels {

/// x has `x_type`, which is that of the weight or the type of the residual stream; scales have the compute type.
struct RmsNormRaw {
  const void* x = nullptr;       ///< in: [rows, E]
  const void* update = nullptr;  ///< in: [rows, E] in the weight's type, or null: nothing to add
  const void* weight = nullptr;  ///< in: [E]
  void* sum = nullptr;           ///< out: [rows, E] in x's type; only written with an update
  void* out = nullptr;           ///< out: [rows, E] in the weight's type
  void* scale = nullptr;         ///< out: [rows]
  int64_t rows = 0;
  int64_t size = 0;  ///< E
  double eps = 0;
  ElementType x_type = ElementType::kFloat32, weight_type = ElementType::kFloat32;
  void* stream = nullptr;  ///< cudaStream_t
};

struct RmsNormBackwardRaw {
  const void* grad = nullptr;      ///< in: [rows, E] in the weight's type
  const void* grad_sum = nullptr;  ///< in: [rows, E] in x's type, or null
  const void* x = nullptr;         ///< in: [rows, E], what was normalised
  const void* weight = nullptr;    ///< in: [E]
  const void* scale = nullptr;     ///< in: [rows]
  void* grad_x = nullptr;          ///< out: [rows, E] in x's type
  void* grad_update = nullptr;     ///< out: the same in the weight's type, or null
  void* weight_parts = nullptr;    ///< out: [parts, E] in the scale's type; their sum is the weight's gradient
  int64_t rows = 0;
  int64_t size = 0;   ///< E
  int64_t parts = 0;  ///< part p sums over the rows p, p + parts, ...
  ElementType x_type = ElementType::kFloat32, weight_type = ElementType::kFloat32;
  void* stream = nullptr;  ///< cudaStream_t
};

void rms_norm_cuda(const RmsNormRaw& params);                   // in libplural_cuda.so
void rms_norm_backward_cuda(const RmsNormBackwardRaw& params);  // in libplural_cuda.so

}  // namespace plural::kernels
