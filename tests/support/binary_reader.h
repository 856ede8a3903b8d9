// SPDX-License-Identifier: Apache-2.0
// Reads the binary files that scripts of tests/parity write: little-endian uint32 numbers, and what they count.
#pragma once

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <vector>

#include "plural/tokenizer.h"
#include "tests/support/catch.h"

class BinaryReader {
 public:
  explicit BinaryReader(const std::filesystem::path& file) {
    std::ifstream in(file, std::ios::binary);
    REQUIRE(in);
    bytes_.assign(std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>());
  }
  size_t number() {
    uint32_t value = 0;
    std::memcpy(&value, take(sizeof value), sizeof value);
    return value;
  }
  std::string text() {
    const size_t size = number();
    return {take(size), size};
  }
  std::vector<plural::TokenId> ids() {
    std::vector<plural::TokenId> out(number());
    for (plural::TokenId& id : out) id = static_cast<plural::TokenId>(number());
    return out;
  }

 private:
  // Not a REQUIRE: there are millions of calls.
  const char* take(size_t size) {
    if (size > bytes_.size() - at_) throw std::runtime_error("a file of the parity script is cut short");
    at_ += size;
    return bytes_.data() + (at_ - size);
  }

  std::string bytes_;
  size_t at_ = 0;
};
