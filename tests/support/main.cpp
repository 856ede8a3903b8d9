// SPDX-License-Identifier: Apache-2.0
// Catch2's implementation and main; compiled without the precompiled header, which has Catch2 already.
#define CATCH_CONFIG_MAIN
#include <catch2/catch.hpp>
