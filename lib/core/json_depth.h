// SPDX-License-Identifier: Apache-2.0
// The JSON library parses any depth of nesting, but copies and prints by recursion: a line of a million brackets would
// overflow the stack. So text from outside is looked at before it is parsed.
#pragma once

#include <cstddef>
#include <string_view>

namespace plural::detail {

/// Beyond it only an attack is meant.
inline constexpr size_t kMaxJsonDepth = 200;

/// True when lists and objects of the JSON text are nested deeper than kMaxJsonDepth. Linear; any bytes.
bool json_too_deep(std::string_view text);

}  // namespace plural::detail
