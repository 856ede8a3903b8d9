// SPDX-License-Identifier: Apache-2.0
// The raw form of a chunk's logits for the CUDA twin: pointers only, no torch header. Everything is contiguous;
// `compute` is float32, float64 for float64 logits.
#pragma once

#include <cstdint>

#include "lib/kernels/types.h"

namespace plural::kernels {

/// A chunk of logits [m, V] and what is known of its rows: log_prob, log_sum, entropy [m] are written by the statistics
/// and (but log_prob) read by the gradient.
struct LogitsRaw {
  void* logits = nullptr;               ///< in: [m, V]; replaced by its gradient in backward
  const int64_t* target = nullptr;      ///< in: [m]
  void* log_prob = nullptr;             ///< [m] compute
  void* log_sum = nullptr;              ///< [m] compute
  void* entropy = nullptr;              ///< [m] compute, or null
  const void* grad_log_prob = nullptr;  ///< in, backward: [m] compute
  const void* grad_entropy = nullptr;   ///< in, backward: [m] compute, or null
  int64_t rows = 0;                     ///< m
  int64_t vocabulary = 0;               ///< V
  double scale = 1;                     ///< 1 / temperature
  ElementType type = ElementType::kFloat32;
  void* stream = nullptr;  ///< cudaStream_t
};

void logit_statistics_cuda(const LogitsRaw& params);  // in libplural_cuda.so
void logit_gradient_cuda(const LogitsRaw& params);    // in libplural_cuda.so

}  // namespace plural::kernels
