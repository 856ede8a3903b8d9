// SPDX-License-Identifier: Apache-2.0
#include "plural/error.h"

#include "lib/core/format.h"

namespace plural::detail {

void throw_check(const char* expression, const char* file, int line, const std::string& message) {
  throw CheckError(fmt::format("{}:{}: check failed: {}: {}", file, line, expression, message));
}

}  // namespace plural::detail
