// SPDX-License-Identifier: Apache-2.0
// Tests include this, never Catch2 itself: torch defines CHECK too, so torch comes first and loses.
#pragma once

#include <ATen/ATen.h>
#undef CHECK
#undef CHECK_FALSE
#undef CHECK_THROWS
#undef INFO
#undef WARN
#undef FAIL
#undef REQUIRE
#include <catch2/catch.hpp>
