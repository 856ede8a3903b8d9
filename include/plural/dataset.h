// SPDX-License-Identifier: Apache-2.0
// Examples: prompts with gold answers and, for fine-tuning, responses. JSON Lines on disk.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "plural/tokenizer.h"

namespace plural {

struct GoldAnswer {
  std::string answer;
  std::vector<std::string> aliases;  ///< other accepted spellings
  double weight = 1.0;               ///< relative frequency, >= 0; a distribution over gold answers
};

struct Response {
  std::string text;
  double reward = 0.0;
};

/// One line of a dataset.
struct Example {
  std::string id;
  std::vector<Message> prompt;  ///< a plain string prompt becomes one user message
  std::vector<GoldAnswer> gold;
  std::vector<Response> responses;
  std::string source;
  std::map<std::string, std::string> extra;  ///< any other field, its value as JSON text
};

/// Parses one JSON object. `place` ("file:line") heads every message. Throws InputError naming the field.
Example parse_example(std::string_view json, std::string_view place);
/// The inverse of parse_example, one line without the newline.
std::string to_json_line(const Example& example);

/// Reads a whole JSON Lines file. All bad lines are reported together in one InputError
/// (file, line, field; at most 20 shown). Blank lines are skipped.
std::vector<Example> load_dataset(const std::filesystem::path& file);

/// The order in which examples are visited: a fresh permutation each epoch, a pure function of
/// (size, seed, epoch), so a position is just one integer.
class DataOrder {
 public:
  DataOrder(int64_t size, uint64_t seed);
  struct Draw {
    int64_t example;  ///< index into the dataset
    int64_t epoch;
  };
  /// The n-th example ever drawn, n >= 0 (n = epoch * size + place in the epoch).
  Draw at(int64_t n);

 private:
  int64_t size_;
  uint64_t seed_;
  int64_t epoch_ = -1;
  std::vector<int64_t> order_;
};

}  // namespace plural
