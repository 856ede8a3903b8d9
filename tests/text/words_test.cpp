// SPDX-License-Identifier: Apache-2.0
#include "lib/text/words.h"

#include "plural/error.h"
#include "tests/support/catch.h"

using namespace plural;

using Words = std::vector<std::string_view>;

TEST_CASE("words stand between spaces, n-grams are joined by one") {
  CHECK(split_words("  red  big cat ") == Words{"red", "big", "cat"});
  CHECK(split_words(" ").empty());
  CHECK(split_words("").empty());
  const Words words = {"red", "big", "cat"};
  CHECK(word_n_grams(words, 1) == std::vector<std::string>{"red", "big", "cat"});
  CHECK(word_n_grams(words, 2) == std::vector<std::string>{"red big", "big cat"});
  CHECK(word_n_grams(words, 3) == std::vector<std::string>{"red big cat"});
  CHECK(word_n_grams(words, 4).empty());
  CHECK_THROWS_AS(word_n_grams(words, 0), CheckError);
}

TEST_CASE("Jaccard similarity of sets of words") {
  CHECK(jaccard(Words{"a", "b", "c"}, Words{"b", "c", "d"}) == 0.5);  // 2 of 4
  CHECK(jaccard(Words{"a"}, Words{"a"}) == 1);
  CHECK(jaccard(Words{"b"}, Words{"a", "c"}) == 0);
  CHECK(jaccard(Words{"a"}, Words{}) == 0);
  CHECK(jaccard(Words{}, Words{}) == 1);
}

TEST_CASE("distinct n-grams, text by text") {
  // red cat red: 2 of 3 are new; red cat: none; dog: one.
  const DistinctCounts counts = count_distinct_n_grams(Words{"red cat red", "red  cat", "dog"}, 1);
  CHECK(counts.fresh == std::vector<int64_t>{2, 0, 1});
  CHECK(counts.all == 6);
  const DistinctCounts pairs = count_distinct_n_grams(Words{"red cat red", "red  cat", "dog"}, 2);
  CHECK(pairs.fresh == std::vector<int64_t>{2, 0, 0});
  CHECK(pairs.all == 3);
}
