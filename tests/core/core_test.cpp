// SPDX-License-Identifier: Apache-2.0
#include <filesystem>
#include <fstream>
#include <set>

#include "lib/core/json_depth.h"
#include "lib/core/utf8.h"
#include "plural/checkpoint.h"
#include "plural/error.h"
#include "plural/rng.h"
#include "plural/tensor.h"
#include "tests/support/catch.h"

using namespace plural;

TEST_CASE("Philox equals the published test vectors") {
  // Random123 kat_vectors, philox4x32-10.
  CHECK(philox({0, 0, 0, 0}, {0, 0}) == std::array<uint32_t, 4>{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
  CHECK(philox({0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, {0xffffffff, 0xffffffff}) ==
        std::array<uint32_t, 4>{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd});
  CHECK(philox({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}) ==
        std::array<uint32_t, 4>{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1});
}

TEST_CASE("streams with different keys differ, equal keys repeat") {
  std::set<uint64_t> first;
  for (uint64_t seed : {1, 2})
    for (RandomPurpose purpose : {RandomPurpose::kSampling, RandomPurpose::kDataOrder})
      for (uint64_t step : {0, 1, 7})
        for (uint64_t row : {0, 1, 31}) {
          RandomStream a(seed, purpose, step, row), b(seed, purpose, step, row);
          const uint64_t x = a.next_u64();
          CHECK(x == b.next_u64());
          first.insert(x);
        }
  CHECK(first.size() == 2 * 2 * 3 * 3);
}

TEST_CASE("below is unbiased and uniform lies in [0, 1)") {
  RandomStream stream(3, RandomPurpose::kUser);
  std::array<int, 7> counts{};
  for (int i = 0; i < 70000; ++i) ++counts[stream.below(7)];
  double chi = 0;
  for (int c : counts) chi += (c - 10000.0) * (c - 10000.0) / 10000.0;
  CHECK(chi < 22.46);  // 99.9 % quantile, 6 degrees of freedom
  double sum = 0;
  for (int i = 0; i < 10000; ++i) {
    const double u = stream.uniform();
    REQUIRE(u >= 0.0);
    REQUIRE(u < 1.0);
    sum += u;
  }
  CHECK(std::abs(sum / 10000 - 0.5) < 0.01);
}

TEST_CASE("check_shapes binds letters across tensors") {
  const Tensor a = at::zeros({2, 3}), b = at::zeros({2}), c = at::zeros({4});
  CHECK_NOTHROW(check_shapes({{"a", a, "B K"}, {"b", b, "B"}}));
  CHECK_THROWS_AS(check_shapes({{"a", a, "B K"}, {"c", c, "B"}}), CheckError);
  CHECK_THROWS_WITH(check_shapes({{"a", a, "B K"}, {"c", c, "B"}}), Catch::Contains("expected [B] got [4]"));
  CHECK_THROWS_AS(check_shapes({{"a", Tensor(), "B"}}), CheckError);
  CHECK_NOTHROW(check_shapes({{"a", Tensor(), "B", true}}));
}

TEST_CASE("atomic writes replace whole files and report a folder that is not there") {
  const auto dir = std::filesystem::temp_directory_path() / "plural_core_test";
  std::filesystem::create_directories(dir);
  write_file_atomic(dir / "a", "one");
  write_file_atomic(dir / "a", "two");
  std::ifstream in(dir / "a");
  std::string text;
  in >> text;
  CHECK(text == "two");
  CHECK(std::distance(std::filesystem::directory_iterator(dir), {}) == 1);
  CHECK_THROWS_AS(write_file_atomic(dir / "no" / "a", "x"), SystemError);
  std::filesystem::remove_all(dir);
}

TEST_CASE("invalid UTF-8 becomes U+FFFD by maximal subparts") {
  const std::string bad = "\xEF\xBF\xBD";
  CHECK(replace_invalid_utf8("a\xFFz") == "a" + bad + "z");
  CHECK(replace_invalid_utf8("\xE2\x82") == bad);
  CHECK(replace_invalid_utf8("\xF0\x9F\x98x") == bad + "x");
  CHECK(replace_invalid_utf8("\xED\xA0\x80") == bad + bad + bad);  // a surrogate
  CHECK(replace_invalid_utf8("\xC0\xAF") == bad + bad);            // overlong
  CHECK(replace_invalid_utf8("\xF4\x90\x80\x80") == bad + bad + bad + bad);
  CHECK(replace_invalid_utf8("é€😀") == "é€😀");
}

TEST_CASE("the valid prefix ends at the first byte that belongs to no character") {
  // Eight ASCII bytes are looked at together, so the places around their borders matter.
  for (size_t before = 0; before < 20; ++before) {
    const std::string ascii(before, 'x');
    CHECK(valid_utf8_prefix(ascii + "€" + ascii) == 2 * before + 3);
    CHECK(is_valid_utf8(ascii + "€" + ascii));
    for (const char* bad : {"\xff", "\x80", "\xe2\x82", "\xed\xa0\x80", "\xc0\xaf"}) {
      CHECK(valid_utf8_prefix(ascii + bad + ascii) == before);
      CHECK_FALSE(is_valid_utf8(ascii + bad));
    }
  }
  CHECK(valid_utf8_prefix("") == 0);
}

TEST_CASE("the depth of JSON counts brackets, but not those in texts") {
  const auto nested = [](size_t depth) { return std::string(depth, '[') + std::string(depth, ']'); };
  CHECK_FALSE(plural::detail::json_too_deep(nested(plural::detail::kMaxJsonDepth)));
  CHECK(plural::detail::json_too_deep(nested(plural::detail::kMaxJsonDepth + 1)));
  std::string siblings;
  for (int i = 0; i < 500; ++i) siblings += "[{}],";
  CHECK_FALSE(plural::detail::json_too_deep(siblings));
  CHECK_FALSE(plural::detail::json_too_deep("\"" + std::string(500, '[') + "\""));
  CHECK_FALSE(plural::detail::json_too_deep("\"\\\"" + std::string(500, '[')));  // the escaped quote ends no text
  CHECK_FALSE(plural::detail::json_too_deep("]]]]"));
}
