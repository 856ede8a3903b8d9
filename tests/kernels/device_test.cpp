// SPDX-License-Identifier: Apache-2.0
#include "plural/device.h"

#include <string>

#include "plural/error.h"
#include "tests/support/catch.h"

using plural::parse_device;

TEST_CASE("device names", "[device]") {
  CHECK(parse_device("cpu") == at::Device(at::kCPU));
  for (const char* name : {"", "gpu", "CPU", "cuda:", "cuda:x", "cuda:-1", "cuda:0x", "cuda0"}) {
    INFO(name);
    CHECK_THROWS_WITH(parse_device(name), Catch::Contains("use cpu, cuda or cuda:N"));
  }
}

TEST_CASE("a GPU that is not there is the user's error and names a remedy", "[device]") {
  if (plural::cuda_available()) {
    CHECK(parse_device("cuda") == at::Device(at::kCUDA, 0));
    CHECK_THROWS_WITH(parse_device("cuda:1000"), Catch::Contains("cuda:1000") && Catch::Contains("Choose one"));
  } else {
    CHECK_THROWS_AS(parse_device("cuda"), plural::InputError);
    CHECK_THROWS_WITH(parse_device("cuda:3"), Catch::Contains("'cuda:3'") && Catch::Contains("cpu"));
  }
}
