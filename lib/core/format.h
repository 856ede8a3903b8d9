// SPDX-License-Identifier: Apache-2.0
// The only includer of fmt. LibTorch ships its headers (without the library) and its include folder comes first,
// so these are the ones used everywhere; fmt.cpp compiles their non-template part.
#pragma once

#include <fmt/format.h>
#include <fmt/ranges.h>

static_assert(FMT_VERSION >= 110000, "plural needs LibTorch's fmt headers, version 11 or later");
