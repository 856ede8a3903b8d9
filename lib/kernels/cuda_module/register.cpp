// SPDX-License-Identifier: Apache-2.0
// The entry of libplural_cuda.so. Linking libtorch_cuda here is what brings ATen's CUDA half into the process.
#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAStream.h>

#include "lib/kernels/cuda_kernels.h"
#include "lib/kernels/decode_attention/decode_attention_raw.h"
#include "lib/kernels/sampler/sampler_raw.h"

namespace {

void* use_device(int index) {
  c10::cuda::set_device(static_cast<c10::DeviceIndex>(index));
  return c10::cuda::getCurrentCUDAStream(static_cast<c10::DeviceIndex>(index)).stream();
}

}  // namespace

extern "C" __attribute__((visibility("default"))) int plural_register_cuda_kernels(
    plural::kernels::CudaKernels* table) {
  const int gpus = c10::cuda::device_count();  // 0, not an exception, without a driver
  if (gpus > 0) {
    table->decode_attention = plural::kernels::decode_attention_cuda;
    table->sample = plural::kernels::sample_cuda;
    table->use_device = use_device;
  }
  return gpus;
}
