// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>

#include "plural/config.h"

namespace plural::detail {

/// parse_yaml for any value: scalars and lists too; empty text is null.
ConfigNode parse_yaml_value(std::string_view text, const std::string& file,
                            std::vector<DuplicateKey>* duplicates = nullptr);

}  // namespace plural::detail
