// SPDX-License-Identifier: Apache-2.0
// Finds stop strings in text that grows token by token, wherever the borders of tokens fall.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace plural {

class StopMatcher {
 public:
  /// An empty stop string throws InputError: it would end every completion before it begins.
  explicit StopMatcher(std::vector<std::string> stops);

  /// First byte of the first stop string in `text`, of which the first `seen` bytes were searched before.
  /// Cost: the new bytes and one stop string's length.
  std::optional<size_t> find(std::string_view text, size_t seen) const;

 private:
  std::vector<std::string> stops_;
};

}  // namespace plural
