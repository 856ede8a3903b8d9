// SPDX-License-Identifier: Apache-2.0
// Text primitives of answer formats (spec/official_rewards.md section 1): trimming, numbers, normal forms.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace plural {

/// Unicode White_Space and U+001C..U+001F.
bool is_space(int32_t code_point);

/// `text` without leading and trailing spaces (is_space). Bytes that are not UTF-8 are no spaces. Linear.
std::string_view trim(std::string_view text);

/// A finite decimal number in ASCII ("0.5", ".5", "5.", "+1e-3"), spaces around it allowed; anything else is
/// no number. Underflow gives 0; overflow is no number.
std::optional<double> parse_number(std::string_view text);

/// normal_form as the reference code has it: without NFC, and deleting ASCII punctuation only. For comparisons with
/// numbers made by that code.
std::string reference_normal_form(std::string_view text);

/// The words of a normal form, singular-folded: '-', '_' and '/' part words, and a final s falls off words of
/// more than three letters. Sorted, without repeats, joined by one space.
std::string word_set_key(std::string_view text);

}  // namespace plural
