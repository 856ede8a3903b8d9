// SPDX-License-Identifier: Apache-2.0
#include "lib/kernels/sum_copies/sum_copies.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "lib/kernels/dispatch.h"
#include "lib/kernels/element_type.h"
#include "lib/kernels/sum_copies/sum_copies_raw.h"
#include "plural/error.h"

namespace plural::kernels {

Tensor sum_copies(const Tensor& copies, const Tensor& begin, const Tensor& place) {
  const at::NoGradGuard no_grad;
  check_shapes({{"copies", copies, "P C"}, {"begin", begin, "M"}, {"place", place, "I"}});
  PLURAL_CHECK(begin.numel() >= 1 && begin.scalar_type() == at::kLong && place.scalar_type() == at::kLong,
               "sum_copies: begin [N + 1] and place are int64");
  const int64_t rows = begin.numel() - 1;
  const CudaKernels* cuda = cuda_kernels_for(copies);
  if (cuda == nullptr) {
    const at::ScalarType wide = copies.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
    const Tensor count = begin.narrow(0, 1, rows) - begin.narrow(0, 0, rows);
    Tensor sum = at::zeros({rows, copies.size(1)}, copies.options().dtype(wide));
    return sum.index_add_(0, at::repeat_interleave(count), copies.index_select(0, place).to(wide))
        .to(copies.scalar_type());
  }
  Tensor out = at::empty({rows, copies.size(1)}, copies.options());
  if (out.numel() == 0) return out;
  const Tensor source = copies.contiguous();
  SumCopiesRaw params;
  params.copies = source.const_data_ptr();
  params.begin = begin.const_data_ptr<int64_t>();
  params.place = place.const_data_ptr<int64_t>();
  params.out = out.mutable_data_ptr();
  params.rows = rows;
  params.size = copies.size(1);
  params.type = element_type(copies);
  params.stream = cuda->use_device(copies.device().index());
  cuda->sum_copies(params);
  return out;
}

}  // namespace plural::kernels
