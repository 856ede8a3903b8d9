// SPDX-License-Identifier: Apache-2.0
#include "lib/kernels/cache_append/cache_append.h"

#include <ATen/ATen.h>

#include "lib/kernels/cache_append/cache_append_raw.h"
#include "lib/kernels/dispatch.h"
#include "lib/kernels/element_type.h"

namespace plural::kernels {
namespace {

Tensor dense_rows(const Tensor& x) {
  const bool dense = x.stride(2) == 1 && (x.size(1) == 1 || x.stride(1) == x.size(2));
  return dense ? x : x.contiguous();
}

}  // namespace

void cache_append_(Tensor& row_keys, Tensor& row_values, const Tensor& slots, const Tensor& places, const Tensor& keys,
                   const Tensor& values) {
  const CudaKernels* cuda = cuda_kernels_for(keys);
  if (cuda == nullptr) {
    // Indices on dimensions 0 and 2 put the row dimension first: [R, Hkv, D].
    row_keys.index_put_({slots, at::indexing::Slice(), places}, keys);
    row_values.index_put_({slots, at::indexing::Slice(), places}, values);
    return;
  }
  if (keys.numel() == 0) return;
  const Tensor k = dense_rows(keys), v = dense_rows(values);
  CacheAppendRaw params;
  params.keys = k.const_data_ptr();
  params.values = v.const_data_ptr();
  params.row_keys = row_keys.mutable_data_ptr();
  params.row_values = row_values.mutable_data_ptr();
  params.slots = slots.const_data_ptr<int64_t>();
  params.places = places.const_data_ptr<int64_t>();
  params.rows = k.size(0);
  params.kv_heads = k.size(1);
  params.size = k.size(2);
  params.capacity = row_keys.size(2);
  params.key_stride = k.stride(0);
  params.value_stride = v.stride(0);
  params.type = element_type(k);
  params.stream = cuda->use_device(k.device().index());
  cuda->cache_append(params);
}

}  // namespace plural::kernels
