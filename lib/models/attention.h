// SPDX-License-Identifier: Apache-2.0
// Attention over a packed batch: every segment attends to its parent's chain and causally to itself. Segments with
// the same parent are computed together against one copy of the parent's keys.
#pragma once

#include <cstdint>
#include <vector>

#include "plural/policy.h"
#include "plural/tensor.h"

namespace plural {

/// Segments with one parent and similar lengths, padded to the longest: one attention call.
struct AttentionGroup {
  std::vector<int64_t> chain;  ///< ancestors (indices of segments), root first; together `prefix` tokens
  int64_t prefix = 0;          ///< S
  int64_t rows = 0;            ///< segments in the group, G
  int64_t length = 0;          ///< longest segment, T
};

/// How a batch's segments are grouped, made once and used by every layer. The *padded places* are the groups' [G, T]
/// places, one group after another: P in all.
struct AttentionPlan {
  std::vector<AttentionGroup> groups;
  std::vector<int64_t> segment_lengths;
  bool has_prefixes = false;  ///< some segment has a parent
  Tensor gather;              ///< [P] int64: packed token of each padded place (0 where there is none)
  Tensor padding;             ///< int64: the padded places that hold no token
  Tensor place;               ///< [N] int64: padded place of each packed token
  int64_t tokens = 0;         ///< N
  int64_t longest = 0;        ///< tokens of the longest sequence, chain included
};

/// Checks that the segments cover [0, N) in order and that parents come first (CheckError otherwise).
AttentionPlan plan_attention(const std::vector<Segment>& segments, int64_t tokens, at::Device device);

/// q [N, H, D], k and v [N, Hkv, D] after rotary -> [N, H, D]. `window` > 0: a token sees itself and the window - 1
/// tokens before it. Differentiable.
Tensor packed_attention(const Tensor& q, const Tensor& k, const Tensor& v, const AttentionPlan& plan, int64_t window);

}  // namespace plural
