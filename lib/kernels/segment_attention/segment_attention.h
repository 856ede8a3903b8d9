// SPDX-License-Identifier: Apache-2.0
// Attention of a packed batch on the CPU, with its backward: every segment attends to the chain of its parents and
// causally to itself. The keys of a shared prompt are read where they are, once for all its completions; scores never
// leave a block of queries. Sums are in float32 (float64 for float64 input), and so are the weights: as in
// decode_attention, so that sampling and training round alike.
#pragma once

#include <cstdint>
#include <vector>

#include "lib/kernels/types.h"

namespace plural::kernels {

/// Tokens [begin, begin + length) of the packed batch.
struct AttentionSegment {
  int64_t begin = 0;
  int64_t length = 0;
  int64_t parent = -1;  ///< the segment before it in the sequence; -1 = it starts one
  int64_t prefix = 0;   ///< tokens of the parents' chain
};

/// A root and all that continues it, as indices of segments, parents first.
using AttentionTree = std::vector<int64_t>;

/// Which tokens see which; made once for a batch.
struct AttentionLayout {
  std::vector<AttentionSegment> segments;
  std::vector<AttentionTree> trees;
};

struct SegmentAttentionParams {
  const AttentionLayout* layout = nullptr;
  ElementType type = ElementType::kFloat32;
  int64_t heads = 0;      ///< H
  int64_t kv_heads = 0;   ///< Hkv, divides H
  int64_t head_size = 0;  ///< D
  int64_t window = 0;     ///< a token sees itself and the window - 1 tokens before it; 0 = all before it
  double scale = 1.0;
  const void* query = nullptr;  ///< in: [N, H, D], dense
  const void* key = nullptr;    ///< in: [N, Hkv, D], dense
  const void* value = nullptr;  ///< in: [N, Hkv, D], dense
  void* out = nullptr;          ///< forward: out, backward: in: [N, H, D]
  void* log_sum = nullptr;      ///< forward: out, backward: in: [N, H] float32 (float64), ln sum exp(scale * q.k)
  // Backward only.
  const void* grad_out = nullptr;  ///< in: [N, H, D]
  void* grad_query = nullptr;      ///< out: [N, H, D]
  void* grad_key = nullptr;        ///< out: [N, Hkv, D]
  void* grad_value = nullptr;      ///< out: [N, Hkv, D]
};

/// Cost: 4 D multiply-adds a visible pair and head forward, 10 D backward. The result does not depend on the number of
/// threads.
void segment_attention_cpu(const SegmentAttentionParams& params);
void segment_attention_backward_cpu(const SegmentAttentionParams& params);

}  // namespace plural::kernels
