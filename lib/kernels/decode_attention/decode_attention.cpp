// SPDX-License-Identifier: Apache-2.0
#include "lib/kernels/decode_attention/decode_attention.h"

#include <ATen/ATen.h>

#include <vector>

#include "lib/core/format.h"
#include "lib/kernels/dispatch.h"
#include "lib/kernels/element_type.h"
#include "plural/error.h"

namespace plural::kernels {
namespace {

void check_cache(const char* name, const Tensor& tensor, const Tensor& query, int64_t kv_heads) {
  PLURAL_CHECK(
      tensor.scalar_type() == query.scalar_type() && tensor.device() == query.device() && tensor.is_contiguous(),
      fmt::format("decode_attention: {} must be contiguous and have the query's dtype and device", name));
  PLURAL_CHECK(tensor.size(-1) == query.size(2) && tensor.size(-3) == kv_heads,
               fmt::format("decode_attention: {} has {} heads of size {}; expected {} of {}", name, tensor.size(-3),
                           tensor.size(-1), kv_heads, query.size(2)));
}

void check(const DecodeAttentionInput& in) {
  PLURAL_CHECK(in.query.dim() == 3 && in.query.is_contiguous(), "decode_attention: query is [R, H, D] contiguous");
  PLURAL_CHECK(in.own_keys.dim() == 4 && in.own_keys.sizes() == in.own_values.sizes(),
               "decode_attention: own keys and values are [max_rows, Hkv, capacity, D]");
  const int64_t kv_heads = in.own_keys.size(1);
  PLURAL_CHECK(kv_heads > 0 && in.query.size(1) % kv_heads == 0,
               fmt::format("decode_attention: {} query heads, {} key heads", in.query.size(1), kv_heads));
  check_cache("own_keys", in.own_keys, in.query, kv_heads);
  check_cache("own_values", in.own_values, in.query, kv_heads);
  PLURAL_CHECK(in.prefix_keys.size() == in.prefix_values.size(), "decode_attention: one value tensor a key tensor");
  for (size_t p = 0; p < in.prefix_keys.size(); ++p) {
    PLURAL_CHECK(in.prefix_keys[p].dim() == 3 && in.prefix_keys[p].sizes() == in.prefix_values[p].sizes(),
                 "decode_attention: prefix keys and values are [Hkv, S, D]");
    check_cache("prefix_keys", in.prefix_keys[p], in.query, kv_heads);
    check_cache("prefix_values", in.prefix_values[p], in.query, kv_heads);
  }
  PLURAL_CHECK(static_cast<int64_t>(in.rows.size()) == in.query.size(0),
               fmt::format("decode_attention: {} rows for {} queries", in.rows.size(), in.query.size(0)));
  for (const DecodeRow& row : in.rows) {
    PLURAL_CHECK(
        row.slot >= 0 && row.slot < in.own_keys.size(0) && row.own_length >= 1 &&
            row.own_length <= in.own_keys.size(2) && row.prefix >= 0 &&
            row.prefix < static_cast<int64_t>(in.prefix_keys.size()),
        fmt::format("decode_attention: slot {} of {}, own length {} of {}, prefix {} of {}", row.slot,
                    in.own_keys.size(0), row.own_length, in.own_keys.size(2), row.prefix, in.prefix_keys.size()));
  }
  PLURAL_CHECK(in.window >= 0, "decode_attention: window is 0 (off) or more");
}

}  // namespace

Tensor decode_attention(const DecodeAttentionInput& in) {
  check(in);
  Tensor out = at::empty_like(in.query);
  if (out.numel() == 0) return out;
  std::vector<DecodeAttentionRow> rows(in.rows.size());
  for (size_t r = 0; r < rows.size(); ++r) {
    const DecodeRow& row = in.rows[r];
    const Tensor& keys = in.prefix_keys[row.prefix];
    rows[r] = {keys.const_data_ptr(), in.prefix_values[row.prefix].const_data_ptr(), static_cast<int32_t>(keys.size(1)),
               static_cast<int32_t>(row.own_length), static_cast<int32_t>(row.slot)};
  }
  DecodeAttentionParams params;
  params.query = in.query.const_data_ptr();
  params.own_keys = in.own_keys.const_data_ptr();
  params.own_values = in.own_values.const_data_ptr();
  params.out = out.mutable_data_ptr();
  params.rows = rows.data();
  params.row_count = in.query.size(0);
  params.heads = in.query.size(1);
  params.kv_heads = in.own_keys.size(1);
  params.head_size = in.query.size(2);
  params.capacity = in.own_keys.size(2);
  params.window = in.window;
  params.scale = in.scale;
  params.type = element_type(in.query);
  if (const CudaKernels* cuda = cuda_kernels_for(in.query)) {
    params.stream = cuda->use_device(in.query.device().index());
    cuda->decode_attention(params);
  } else {
    decode_attention_cpu(params);
  }
  return out;
}

}  // namespace plural::kernels
