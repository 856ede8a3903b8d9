// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "plural/answers.h"

namespace plural {

/// The matcher "code": answers are programs, and one that passes all of the example's tests is its first gold answer
/// (docs/rewards/code.md). Options: CodeMatcher::Options.
std::unique_ptr<Matcher> make_code_matcher(const ConfigNode& options);

}  // namespace plural
