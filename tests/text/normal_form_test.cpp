// SPDX-License-Identifier: Apache-2.0
#include "lib/text/normal_form.h"

#include <cmath>
#include <string>

#include "plural/answers.h"
#include "tests/support/catch.h"

using namespace plural;

TEST_CASE("trim takes all Unicode spaces and nothing else") {
  CHECK(trim(" \t\r\n a b \x1c\x1f") == "a b");
  CHECK(trim("\u00a0\u2003x\u3000\u2028") == "x");
  CHECK(trim("\u200bx\ufeff") == "\u200bx\ufeff");  // zero-width characters are no spaces
  CHECK(trim(" \n ").empty());
  CHECK(trim("").empty());
  CHECK(trim(" \xff ") == "\xff");
  CHECK(trim("\xc2") == "\xc2");
}

TEST_CASE("numbers are plain ASCII decimals") {
  const std::pair<const char*, double> valid[] = {{"0.5", 0.5},
                                                  {".5", 0.5},
                                                  {"5.", 5},
                                                  {"+0.5", 0.5},
                                                  {"-0", 0},
                                                  {"1e-3", 0.001},
                                                  {"5E-1", 0.5},
                                                  {"00.5", 0.5},
                                                  {" 0.5\n", 0.5},
                                                  {"\u00a00.5\u2003", 0.5},
                                                  {"1e-999", 0},
                                                  {"0e999999999999", 0},
                                                  {"1.00000000000000000001", 1},
                                                  {"1.0000000000000002", 1.0000000000000002},
                                                  {"0.0000001e7", 1},
                                                  {"-1e-999", 0},
                                                  {"100e-400", 0}};
  for (const auto& [text, value] : valid) {
    INFO(text);
    REQUIRE(parse_number(text).has_value());
    CHECK(*parse_number(text) == value);
  }
  for (const char* text : {"",
                           " ",
                           "nan",
                           "inf",
                           "-Infinity",
                           "85%",
                           "0,5",
                           "1/2",
                           "0x1p-1",
                           "0.5f",
                           "0.5 0.6",
                           "x0.5",
                           "0.1_5",
                           "\u0660.\u0665",
                           "\u22120.5",
                           "\u200b0.5",
                           "1e999",
                           "0.00001e999",
                           "1e",
                           "1e+",
                           ".",
                           "+",
                           "--1",
                           "1..2",
                           "1.2.3",
                           "\x1c"
                           "0.5"}) {
    INFO(text);
    CHECK_FALSE(parse_number(text).has_value());
  }
  CHECK_FALSE(parse_number(std::string_view("0.5\0", 4)).has_value());
  CHECK(std::signbit(*parse_number("-0.0")));
}

TEST_CASE("normal forms") {
  const std::pair<const char*, const char*> cases[] = {
      {"Guillain-Barre", "guillainbarre"},
      {"The  cat\tand an owl", "cat and owl"},
      {"the-an", "thean"},  // joined before articles are looked for
      {"Vitamin A deficiency", "vitamin deficiency"},
      {"C++", "c"},
      {"C#", "c"},
      {"a", ""},
      {"The The", ""},
      {"...", ""},
      {"", ""},
      {"a1", "a1"},
      {"an\u00e9", "an\u00e9"},  // longer words stay
      {"Crohn\u2019s \u2014 disease\u2026", "crohns disease"},
      {"a\u0301", "\u00e1"},                                     // NFC first: no article
      {"\u039f\u0394\u039f\u03a3", "\u03bf\u03b4\u03bf\u03c2"},  // final sigma
      {"\u0130", "i\u0307"},                                     // dotted capital I
      {"Stra\u00dfe", "stra\u00dfe"},                            // sharp s stays
      {"x\u00a0\u3000y", "x y"},
      {"\u200bthe", "\u200b"},  // a zero-width space ends the word, and stays
  };
  for (const auto& [text, normal] : cases) {
    INFO(text);
    CHECK(normal_form(text) == normal);
  }
}

TEST_CASE("normal forms of any bytes are UTF-8 and stay as they are") {
  for (const char* text : {"\xff\xfe The \xc3", "\xed\xa0\x80", "caf\xc3\xa9 \xf0\x9f\x98\x80!"}) {
    const std::string once = normal_form(text);
    CHECK(normal_form(once) == once);
  }
}

TEST_CASE("word sets") {
  CHECK(word_set_key("Dogs and the cats") == "and cat dog");
  CHECK(word_set_key("cat, dog and dog") == "and cat dog");
  CHECK(word_set_key("T-shirts") == "shirt t");
  CHECK(word_set_key("gas") == "gas");  // three letters keep their s
  CHECK(word_set_key("the").empty());
}
