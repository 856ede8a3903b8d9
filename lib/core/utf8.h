// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <string_view>

namespace plural::detail {

/// Offset of the first byte that is not part of well-formed UTF-8 (no surrogates, no overlong forms), or npos.
inline size_t find_invalid_utf8(std::string_view text) {
  const auto* s = reinterpret_cast<const unsigned char*>(text.data());
  const size_t n = text.size();
  for (size_t i = 0; i < n;) {
    const unsigned char a = s[i];
    if (a < 0x80) {
      ++i;
      continue;
    }
    size_t more;
    unsigned char low = 0x80, high = 0xbf;  // of the second byte
    if (a >= 0xc2 && a <= 0xdf) {
      more = 1;
    } else if (a >= 0xe0 && a <= 0xef) {
      more = 2;
      if (a == 0xe0) low = 0xa0;
      if (a == 0xed) high = 0x9f;
    } else if (a >= 0xf0 && a <= 0xf4) {
      more = 3;
      if (a == 0xf0) low = 0x90;
      if (a == 0xf4) high = 0x8f;
    } else {
      return i;
    }
    if (n - i <= more || s[i + 1] < low || s[i + 1] > high) return i;
    for (size_t k = 2; k <= more; ++k)
      if ((s[i + k] & 0xc0) != 0x80) return i;
    i += more + 1;
  }
  return std::string_view::npos;
}

}  // namespace plural::detail
