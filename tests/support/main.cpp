// SPDX-License-Identifier: Apache-2.0
// Catch2's implementation and main; compiled without the precompiled header, which has Catch2 already.
#define CATCH_CONFIG_RUNNER
#include <catch2/catch.hpp>

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "plural/device.h"

int main(int argc, char** argv) {
  const char* device = std::getenv("PLURAL_TEST_DEVICE");
  if (device != nullptr && std::strncmp(device, "cuda", 4) == 0 && !plural::cuda_available()) {
    std::fprintf(stderr, "skipped: PLURAL_TEST_DEVICE=%s, but no GPU can be used here\n", device);
    return 77;
  }
  return Catch::Session().run(argc, argv);
}
