// SPDX-License-Identifier: Apache-2.0
#include <cctype>
#include <map>
#include <sstream>

#include "lib/core/format.h"
#include "plural/error.h"
#include "plural/tensor.h"

namespace plural {

void check_shapes(std::initializer_list<ShapeCheck> checks) {
  std::map<std::string, int64_t> bound;
  std::string conflict;
  for (const ShapeCheck& check : checks) {
    if (!check.tensor.defined()) {
      if (!check.optional) conflict = fmt::format("'{}' is undefined", check.name);
      continue;
    }
    std::istringstream words(check.shape);
    std::vector<std::string> letters;
    for (std::string word; words >> word;) letters.push_back(word);
    if (static_cast<int64_t>(letters.size()) != check.tensor.dim()) {
      conflict = fmt::format("'{}' has {} dimensions, expected {}", check.name, check.tensor.dim(), letters.size());
      continue;
    }
    for (size_t i = 0; i < letters.size(); ++i) {
      const int64_t size = check.tensor.size(static_cast<int64_t>(i));
      const bool number = std::isdigit(static_cast<unsigned char>(letters[i][0])) != 0;
      const int64_t expected = number ? std::stoll(letters[i]) : bound.try_emplace(letters[i], size).first->second;
      if (expected != size)
        conflict = fmt::format("'{}' has {} = {}, expected {}", check.name, letters[i], size, expected);
    }
  }
  if (conflict.empty()) return;
  std::string table = "shapes do not fit: " + conflict;
  for (const ShapeCheck& check : checks) {
    const std::string got = check.tensor.defined() ? fmt::format("{}", fmt::join(check.tensor.sizes(), ", "))
                                                   : "undefined";
    table += fmt::format("\n  {:<24} expected [{}] got [{}]", check.name, check.shape, got);
  }
  throw CheckError(table);
}

}  // namespace plural
