// SPDX-License-Identifier: Apache-2.0
// Names of devices, and the memory of the CPU. The CUDA half of plural and of LibTorch is loaded when a GPU is first
// asked for (docs/design/002-cuda-module.md), so programs that stay on the CPU never pay for it.
#pragma once

#include <c10/core/Device.h>

#include <string_view>

namespace plural {

/// "cpu", "cuda" (= "cuda:0") or "cuda:N". For a GPU, loads libplural_cuda.so once a process; call it before
/// anything else of LibTorch touches CUDA. Unknown names, a build without CUDA, and a missing GPU throw
/// InputError that says what to do. Thread-safe.
at::Device parse_device(std::string_view name);

/// Whether parse_device("cuda") would succeed; never throws.
bool cuda_available();

/// Lets the C library's heap keep what is freed. Training on the CPU takes and frees gigabytes a step, and fetching
/// them from the system page by page costs as much as some layers. For the start of a program's main(): it changes
/// the whole process (glibc's mallopt; elsewhere nothing), so the library never calls it itself.
void keep_freed_memory();

/// Gives back to the system what the heap has kept and nothing uses (glibc's malloc_trim; elsewhere nothing). A heap
/// that keeps everything falls to pieces and grows, by some 40 MB a step of the quickstart: run_training() calls this
/// every ten steps. The next steps fetch their memory anew.
void release_freed_memory();

}  // namespace plural
