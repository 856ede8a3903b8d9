// SPDX-License-Identifier: Apache-2.0
#include "lib/rollout/stop_matcher.h"

#include <algorithm>
#include <utility>

#include "plural/error.h"

namespace plural {

StopMatcher::StopMatcher(std::vector<std::string> stops) : stops_(std::move(stops)) {
  for (const std::string& stop : stops_) {
    if (stop.empty()) throw InputError("a stop string is empty; it would end every completion at once. Remove it");
  }
}

std::optional<size_t> StopMatcher::find(std::string_view text, size_t seen) const {
  size_t first = std::string_view::npos;
  for (const std::string& stop : stops_) {
    const size_t overlap = std::min(seen, stop.size() - 1);  // it may have begun in text already searched
    first = std::min(first, text.find(stop, seen - overlap));
  }
  if (first == std::string_view::npos) return std::nullopt;
  return first;
}

}  // namespace plural
