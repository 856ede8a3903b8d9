// SPDX-License-Identifier: Apache-2.0
// The entry of libplural_cuda.so. Linking libtorch_cuda here is what brings ATen's CUDA half into the process.
#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAStream.h>

#include "lib/kernels/cache_append/cache_append_raw.h"
#include "lib/kernels/cuda_kernels.h"
#include "lib/kernels/decode_attention/decode_attention_raw.h"
#include "lib/kernels/rms_norm/rms_norm_raw.h"
#include "lib/kernels/rotary/rotary_raw.h"
#include "lib/kernels/sampler/sampler_raw.h"
#include "lib/kernels/sum_copies/sum_copies_raw.h"
#include "lib/kernels/swiglu/swiglu_raw.h"
#include "lib/kernels/token_logprob/token_logprob_raw.h"

namespace {

void* use_device(int index) {
  c10::cuda::set_device(static_cast<c10::DeviceIndex>(index));
  return c10::cuda::getCurrentCUDAStream(static_cast<c10::DeviceIndex>(index)).stream();
}

}  // namespace

extern "C" __attribute__((visibility("default"))) int plural_register_cuda_kernels(
    plural::kernels::CudaKernels* table) {
  // 0, not an exception, without a driver. NOLINTNEXTLINE(bugprone-signed-char-misuse): the index type holds a count.
  const int gpus = c10::cuda::device_count();
  if (gpus > 0) {
    table->cache_append = plural::kernels::cache_append_cuda;
    table->decode_attention = plural::kernels::decode_attention_cuda;
    table->logit_gradient = plural::kernels::logit_gradient_cuda;
    table->logit_statistics = plural::kernels::logit_statistics_cuda;
    table->rms_norm = plural::kernels::rms_norm_cuda;
    table->rms_norm_backward = plural::kernels::rms_norm_backward_cuda;
    table->rotary = plural::kernels::rotary_cuda;
    table->sample = plural::kernels::sample_cuda;
    table->sum_copies = plural::kernels::sum_copies_cuda;
    table->swiglu = plural::kernels::swiglu_cuda;
    table->swiglu_backward = plural::kernels::swiglu_backward_cuda;
    table->use_device = use_device;
  }
  return gpus;
}
