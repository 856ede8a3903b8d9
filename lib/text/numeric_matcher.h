// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "plural/answers.h"

namespace plural {

/// The matcher "numeric": numbers are equal within a relative tolerance; all else is as in "alias"
/// (docs/guides/matchers.md). Options: NumericMatcher::Options.
std::unique_ptr<Matcher> make_numeric_matcher(const ConfigNode& options);

}  // namespace plural
