// SPDX-License-Identifier: Apache-2.0
// Draws the next token of every row from its logits. Twins: sampler_cpu.cpp (the definition), sampler_cuda.cu.
//
// Which number decides: token t of row r of step s takes the 2t-th uniform() of
// RandomStream(seed, RandomPurpose::kSampling, s, r): the first 53 bits of Philox block t. One number a token,
// whatever the filters do, so a row's stream depends on nothing but (seed, step, row).
#pragma once

#include <cstdint>
#include <span>

#include "lib/kernels/sampler/sampler_raw.h"
#include "plural/tensor.h"

namespace plural::kernels {

/// Inputs of sample(). Filters act in the order temperature, top-k, top-p (on what top-k left, rescaled to 1),
/// min-p. Among equal logits the lower id ranks higher, so top-k keeps exactly k tokens. The likeliest token
/// always stays.
struct SampleInput {
  Tensor logits;                    ///< [R, V] float32 contiguous, not divided by the temperature
  std::span<const DrawPlace> rows;  ///< R, on the host
  uint64_t seed = 0;
  uint64_t step = 0;
  double temperature = 1.0;  ///< 0 = greedy: the largest logit, the lowest id among equals
  int64_t top_k = 0;         ///< keep the k likeliest; 0 = off
  double top_p = 1.0;        ///< keep the smallest set of likeliest tokens with at least this mass; 1 = off
  double min_p = 0.0;        ///< drop tokens below this share of the likeliest one; 0 = off
  /// Only ids below it are drawn (a model's vocabulary may be padded past the tokenizer's); 0 = V. The log-prob is
  /// over all V, as the policy's own.
  int64_t drawable = 0;
};

struct SampleOutput {
  Tensor ids;  ///< [R] int64
  /// [R] float32, nats: ln p of the drawn id under the temperature-scaled distribution before the filters (greedy:
  /// under temperature 1). NaN, with id 0, where a row's logits are not finite numbers.
  Tensor log_prob;
};

/// Broken shapes or options throw CheckError. Cost on the CPU: two passes over V, and with top-k or top-p one more.
SampleOutput sample(const SampleInput& input);

}  // namespace plural::kernels
