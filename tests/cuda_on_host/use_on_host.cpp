// SPDX-License-Identifier: Apache-2.0
// Makes the tensors of this test program take the CUDA kernels on the CPU.
#include "lib/kernels/cache_append/cache_append_raw.h"
#include "lib/kernels/decode_attention/decode_attention_raw.h"
#include "lib/kernels/dispatch.h"
#include "lib/kernels/rms_norm/rms_norm_raw.h"
#include "lib/kernels/rotary/rotary_raw.h"
#include "lib/kernels/sampler/sampler_raw.h"
#include "lib/kernels/sum_copies/sum_copies.h"
#include "lib/kernels/sum_copies/sum_copies_raw.h"
#include "lib/kernels/swiglu/swiglu_raw.h"
#include "lib/kernels/token_logprob/token_logprob_raw.h"
#include "tests/support/catch.h"

namespace plural::kernels {
namespace {

int64_t calls = 0;

template <auto kKernel, class Params>
void counted(const Params& params) {
  ++calls;
  kKernel(params);
}

CudaKernels table() {
  CudaKernels kernels;
  kernels.cache_append = counted<cache_append_cuda, CacheAppendRaw>;
  kernels.decode_attention = counted<decode_attention_cuda, DecodeAttentionParams>;
  kernels.logit_gradient = counted<logit_gradient_cuda, LogitsRaw>;
  kernels.logit_statistics = counted<logit_statistics_cuda, LogitsRaw>;
  kernels.rms_norm = counted<rms_norm_cuda, RmsNormRaw>;
  kernels.rms_norm_backward = counted<rms_norm_backward_cuda, RmsNormBackwardRaw>;
  kernels.rotary = counted<rotary_cuda, RotaryRaw>;
  kernels.sample = counted<sample_cuda, SampleParams>;
  kernels.sum_copies = counted<sum_copies_cuda, SumCopiesRaw>;
  kernels.swiglu = counted<swiglu_cuda, SwigluRaw>;
  kernels.swiglu_backward = counted<swiglu_backward_cuda, SwigluRaw>;
  kernels.use_device = [](int) -> void* { return nullptr; };
  return kernels;
}

const CudaKernels kTable = table();
const bool kInUse = (use_cuda_kernels_on_host(&kTable), true);

}  // namespace

TEST_CASE("the tests of this program run the CUDA kernels") {
  REQUIRE(kInUse);
  const Tensor sum = sum_copies(at::ones({2, 1}), at::tensor({0, 2}, at::kLong), at::arange(2, at::kLong));
  CHECK(sum.item<float>() == 2.0F);
  CHECK(calls > 0);
}

}  // namespace plural::kernels
