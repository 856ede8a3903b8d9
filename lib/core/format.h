// SPDX-License-Identifier: Apache-2.0
// The only includer of fmt. LibTorch ships its own copy of the headers and its include folder comes first, so
// fmt is used header-only: one version in the program, whichever folder wins.
#pragma once

#include <fmt/format.h>
#include <fmt/ranges.h>

#ifndef FMT_HEADER_ONLY
#error "plural uses fmt header-only; link plural::torch"
#endif
static_assert(FMT_VERSION >= 90000, "fmt 9 or later");
