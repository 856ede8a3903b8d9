// SPDX-License-Identifier: Apache-2.0
// The raw form of sample(), shared by its twins: pointers only, no torch header.
#pragma once

#include <cstdint>

namespace plural::kernels {

/// Which number of which stream a row draws with.
struct DrawPlace {
  uint64_t row = 0;    ///< stream of the row; 32 bits are used
  uint64_t token = 0;  ///< number of the token within the row, from 0; 32 bits are used
};

struct SampleParams {
  const float* logits = nullptr;    ///< in: [R, V]
  int64_t* ids = nullptr;           ///< out: [R]
  float* log_prob = nullptr;        ///< out: [R]
  const DrawPlace* rows = nullptr;  ///< in: R entries, host memory for both twins
  int64_t row_count = 0;            ///< R
  int64_t vocab = 0;                ///< V >= 1
  int64_t drawable = 0;             ///< 1 <= drawable <= V
  uint32_t key[2] = {0, 0};         ///< the seed's halves
  uint32_t step[2] = {0, 0};        ///< counter words 2 and 3: the step's halves, the purpose mixed in
  float temperature = 1.0F;         ///< 0 = greedy
  int64_t top_k = 0;
  double top_p = 1.0;
  float min_p = 0.0F;
  void* stream = nullptr;  ///< CUDA only: cudaStream_t
};

void sample_cpu(const SampleParams& params);
void sample_cuda(const SampleParams& params);  // in libplural_cuda.so

}  // namespace plural::kernels
