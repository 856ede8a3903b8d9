// SPDX-License-Identifier: Apache-2.0
// Tensor tests are written once and run per device: plural_add_test(... PER_DEVICE) makes a second ctest entry that
// sets PLURAL_TEST_DEVICE=cuda. Without a GPU that entry ends with 77, which ctest shows as Skipped.
// Tags of test cases: [host] for what has no tensors on a device, or promises something of the CPU alone; the second
// entry leaves them out. [transformers] for what lets Python compute with more than torch; gpu-check leaves them out.
// [many_draws] for what takes too long where the CUDA kernels run on the CPU (tests/cuda_on_host).
#pragma once

#include <cstdlib>
#include <string>

#include "plural/device.h"

/// The device the running test is meant for: PLURAL_TEST_DEVICE, or the CPU.
inline at::Device test_device() {
  const char* name = std::getenv("PLURAL_TEST_DEVICE");
  return plural::parse_device(name == nullptr ? "cpu" : name);
}
