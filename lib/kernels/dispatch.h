// SPDX-License-Identifier: Apache-2.0
// Which twin of a kernel a tensor takes.
#pragma once

#include "lib/kernels/cuda_kernels.h"
#include "plural/tensor.h"

namespace plural::kernels {

/// The CUDA kernels for a tensor on a GPU; null for one on the CPU.
const CudaKernels* cuda_kernels_for(const Tensor& x);

/// For tests: CPU tensors take these kernels, which work on host memory (tests/cuda_on_host).
void use_cuda_kernels_on_host(const CudaKernels* kernels);

}  // namespace plural::kernels
