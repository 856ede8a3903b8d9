// SPDX-License-Identifier: Apache-2.0
// The four character classes that pre-tokenisers ask for, as one table look-up per character.
#pragma once

#include <cstdint>

#include "lib/core/utf8.h"

namespace plural {

enum CharClass : uint8_t {
  kLetter = 1,  ///< \p{L}
  kNumber = 2,  ///< \p{N}
  kSpace = 4,   ///< \s: the property White_Space
  kDigit = 8,   ///< what the Digits pre-tokeniser splits at (char::is_numeric)
};

/// CharClass bits of every code point; index below 0x110000. Built at the first call, shared by all
/// threads.
const uint8_t* char_classes();

/// \w: letters, marks, decimal digits, connectors and joiners.
bool is_word_char(char32_t code_point);

}  // namespace plural
