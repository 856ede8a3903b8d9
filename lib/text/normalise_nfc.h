// SPDX-License-Identifier: Apache-2.0
// Unicode normalisation of text before it is tokenised (Qwen asks for NFC).
#pragma once

#include <string>
#include <string_view>

namespace plural {

enum class NormalForm { kNfc, kNfd, kNfkc, kNfkd };

/// `text` (valid UTF-8) in the given Unicode normal form.
std::string normalise(std::string_view text, NormalForm form);

}  // namespace plural
