// SPDX-License-Identifier: Apache-2.0
// Attention over a packed batch: every segment attends to its parent's chain and causally to itself. Segments with
// the same parent are computed together against one copy of the parent's keys.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "lib/kernels/segment_attention/segment_attention.h"
#include "plural/policy.h"
#include "plural/tensor.h"

namespace plural {

/// Segments with one parent and similar lengths, padded to the longest: one attention call.
struct AttentionGroup {
  std::vector<int64_t> chain;  ///< ancestors (indices of segments), root first; together `prefix` tokens
  int64_t prefix = 0;          ///< S
  int64_t rows = 0;            ///< segments in the group, G
  int64_t length = 0;          ///< longest segment, T
  int64_t first_place = 0;     ///< its first padded place
};

/// What flash attention on a GPU reads: where each segment's queries and keys lie, segment after segment.
struct FlashPlan {
  Tensor query_begin, key_begin;  ///< [segments + 1] int32
  int64_t longest_query = 0, longest_key = 0;
  Tensor keys;  ///< [P] int64: packed token of each key; undefined where no segment has a parent: they are
                ///< the packed tokens themselves
  Tensor copy_begin, copies;  ///< [N + 1] and [P] int64: the places of each token among the keys (kernels::sum_copies)
};

/// How a batch's segments hang together, made once and used by every layer. The CPU's kernel reads the layout, flash
/// attention (CUDA, bfloat16) the flash plan, the composed attention (CUDA, other dtypes) the groups. The *padded
/// places* are the groups' [G, T] places, one group after another: P in all.
struct AttentionPlan {
  kernels::AttentionLayout layout;
  FlashPlan flash;  ///< on a GPU only
  std::vector<AttentionGroup> groups;
  std::vector<int64_t> segment_begins, segment_lengths;
  bool has_prefixes = false;  ///< some segment has a parent
  Tensor gather;              ///< [P] int64: packed token of each padded place (0 where there is none)
  Tensor padding;             ///< int64: the padded places that hold no token
  Tensor place;               ///< [N] int64: padded place of each packed token
  int64_t tokens = 0;         ///< N
  int64_t longest = 0;        ///< tokens of the longest sequence, chain included
};

/// Shared with the graph, whose backward needs it.
using AttentionPlanPtr = std::shared_ptr<const AttentionPlan>;

/// Checks that the segments cover [0, N) in order and that parents come first (CheckError otherwise).
AttentionPlanPtr plan_attention(const std::vector<Segment>& segments, int64_t tokens, at::Device device);

/// q [N, H, D], k and v [N, Hkv, D] after rotary -> [N, H, D]. `window` > 0: a token sees itself and the window - 1
/// tokens before it. Differentiable.
Tensor packed_attention(const Tensor& q, const Tensor& k, const Tensor& v, const AttentionPlanPtr& plan,
                        int64_t window);

namespace detail {
/// packed_attention by the CPU's kernel.
Tensor packed_attention_cpu(const Tensor& q, const Tensor& k, const Tensor& v, const AttentionPlanPtr& plan,
                            int64_t window);

/// packed_attention by ATen's flash attention: what flash_can says yes to.
Tensor packed_attention_flash(const Tensor& q, const Tensor& k, const Tensor& v, const FlashPlan& plan, int64_t window);
bool flash_can(const Tensor& q);
FlashPlan plan_flash(const kernels::AttentionLayout& layout, int64_t tokens, at::Device device);

/// packed_attention by scaled_dot_product_attention of padded groups, on any device.
Tensor packed_attention_composed(const Tensor& q, const Tensor& k, const Tensor& v, const AttentionPlanPtr& plan,
                                 int64_t window);

/// [.., Hkv, D] -> [.., H, D]: each key head serves H / Hkv neighbouring query heads.
Tensor repeat_heads(const Tensor& x, int64_t heads);
}  // namespace detail

}  // namespace plural
