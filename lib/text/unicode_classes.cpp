// SPDX-License-Identifier: Apache-2.0
#include "lib/text/unicode_classes.h"

#include <unicode/uchar.h>

#include <algorithm>
#include <vector>

namespace plural {
namespace {

constexpr char32_t kCodePoints = 0x110000;

struct Range {
  char32_t first, last;
  uint8_t classes;
};

// Characters of Unicode 15.1 and 16 (digits: 17), which `tokenizers` 0.23 knows and an older ICU
// calls unassigned. Found by comparing all code points; without them the ids of such text would
// depend on the system's ICU.
constexpr Range kNewerCharacters[] = {
    {0x1C89, 0x1C8A, kLetter},
    {0xA7CB, 0xA7CD, kLetter},
    {0xA7DA, 0xA7DC, kLetter},
    {0x105C0, 0x105F3, kLetter},
    {0x10D4A, 0x10D65, kLetter},
    {0x10D6F, 0x10D85, kLetter},
    {0x10EC2, 0x10EC4, kLetter},
    {0x11380, 0x11389, kLetter},
    {0x1138B, 0x1138B, kLetter},
    {0x1138E, 0x1138E, kLetter},
    {0x11390, 0x113B5, kLetter},
    {0x113B7, 0x113B7, kLetter},
    {0x113D1, 0x113D1, kLetter},
    {0x113D3, 0x113D3, kLetter},
    {0x11BC0, 0x11BE0, kLetter},
    {0x13460, 0x143FA, kLetter},
    {0x16100, 0x1611D, kLetter},
    {0x16D40, 0x16D6C, kLetter},
    {0x18CFF, 0x18CFF, kLetter},
    {0x1E5D0, 0x1E5ED, kLetter},
    {0x1E5F0, 0x1E5F0, kLetter},
    {0x2EBF0, 0x2EE5D, kLetter},
    {0x10D40, 0x10D49, kNumber | kDigit},
    {0x116D0, 0x116E3, kNumber | kDigit},
    {0x11BF0, 0x11BF9, kNumber | kDigit},
    {0x16130, 0x16139, kNumber | kDigit},
    {0x16D70, 0x16D79, kNumber | kDigit},
    {0x1CCF0, 0x1CCF9, kNumber | kDigit},
    {0x1E5F1, 0x1E5FA, kNumber | kDigit},
    {0x11DE0, 0x11DE9, kDigit},
    {0x16FF4, 0x16FF6, kDigit},
};

UBool add_range(const void* context, UChar32 start, UChar32 limit, UCharCategory category) {
  auto& table = *static_cast<std::vector<uint8_t>*>(const_cast<void*>(context));
  const uint32_t mask = U_MASK(category);
  uint8_t classes = 0;
  if (mask & U_GC_L_MASK) classes |= kLetter;
  if (mask & U_GC_N_MASK) classes |= kNumber | kDigit;
  std::fill(table.begin() + start, table.begin() + limit, classes);
  return true;
}

std::vector<uint8_t> build_table() {
  std::vector<uint8_t> table(kCodePoints);
  u_enumCharTypes(add_range, &table);
  for (const Range& range : kNewerCharacters)
    for (char32_t c = range.first; c <= range.last; ++c)
      if (u_charType(static_cast<UChar32>(c)) == U_UNASSIGNED) table[c] |= range.classes;
  // All white space lies in the basic plane.
  for (UChar32 c = 0; c < 0x10000; ++c)
    if (u_isUWhiteSpace(c)) table[static_cast<size_t>(c)] |= kSpace;
  return table;
}

}  // namespace

const uint8_t* char_classes() {
  static const std::vector<uint8_t> table = build_table();
  return table.data();
}

bool is_word_char(char32_t code_point) {
  const auto c = static_cast<UChar32>(code_point);
  const uint32_t mask = U_GC_M_MASK | U_GC_ND_MASK | U_GC_PC_MASK;
  return u_isUAlphabetic(c) || (U_MASK(u_charType(c)) & mask) != 0 || u_hasBinaryProperty(c, UCHAR_JOIN_CONTROL);
}

}  // namespace plural
