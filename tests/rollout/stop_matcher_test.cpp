// SPDX-License-Identifier: Apache-2.0
#include "lib/rollout/stop_matcher.h"

#include <string>
#include <vector>

#include "plural/error.h"
#include "tests/support/catch.h"

using plural::StopMatcher;

namespace {

/// Feeds the pieces one by one; the place of the stop string, or -1.
int64_t feed(const StopMatcher& matcher, const std::vector<std::string>& pieces) {
  std::string text;
  for (const std::string& piece : pieces) {
    const size_t seen = text.size();
    text += piece;
    if (const auto place = matcher.find(text, seen)) return static_cast<int64_t>(*place);
  }
  return -1;
}

}  // namespace

TEST_CASE("stop strings are found wherever tokens end", "[stop]") {
  const StopMatcher matcher({"END", "\n\n"});
  CHECK(feed(matcher, {"abENDcd"}) == 2);
  CHECK(feed(matcher, {"ab", "END"}) == 2);
  CHECK(feed(matcher, {"abE", "N", "D"}) == 2);
  CHECK(feed(matcher, {"abE", "", "ND more"}) == 2);
  CHECK(feed(matcher, {"a\n", "\nEND"}) == 1);
  CHECK(feed(matcher, {"EN", "EN", "ENX", "D"}) == -1);
  CHECK(feed(matcher, {}) == -1);
  CHECK(feed(matcher, {"", ""}) == -1);
}

TEST_CASE("the first of several stop strings counts", "[stop]") {
  CHECK(feed(StopMatcher({"bc", "abc", "c"}), {"xxa", "bcd"}) == 2);
  CHECK(feed(StopMatcher({"c", "bc"}), {"xxb", "cd"}) == 2);
}

TEST_CASE("no stop strings, and an empty one", "[stop]") {
  CHECK(feed(StopMatcher({}), {"anything"}) == -1);
  CHECK_THROWS_AS(StopMatcher({"a", ""}), plural::InputError);
}
