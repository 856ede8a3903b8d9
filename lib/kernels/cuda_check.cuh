// SPDX-License-Identifier: Apache-2.0
// Errors of CUDA calls as exceptions.
#pragma once

#include <cuda_runtime.h>

#include <string>

#include "plural/error.h"

namespace plural::kernels {

/// Throws SystemError when `status` is an error; `what` names the kernel or call.
inline void check_cuda(cudaError_t status, const char* what) {
  if (status != cudaSuccess) throw SystemError(std::string(what) + ": CUDA error: " + cudaGetErrorString(status));
}

}  // namespace plural::kernels
