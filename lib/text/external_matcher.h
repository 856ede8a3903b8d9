// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "plural/answers.h"

namespace plural {

/// The matcher "external": what the matcher `fallback` finds stands; for the rest, in examples of the listed sources,
/// worker processes are asked. Options: ExternalMatcher::Options.
std::unique_ptr<Matcher> make_external_matcher(const ConfigNode& options);

}  // namespace plural
