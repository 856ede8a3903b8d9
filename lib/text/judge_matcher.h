// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "plural/answers.h"

namespace plural {

/// The matcher "judge": what the matcher `fallback` finds stands; about all else another model is asked over HTTP
/// (docs/guides/matchers.md). Options: JudgeMatcher::Options. `variables` is asked for the API key.
std::unique_ptr<Matcher> make_judge_matcher(const ConfigNode& options, const VariableLookup& variables);

}  // namespace plural
