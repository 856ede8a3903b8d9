// SPDX-License-Identifier: Apache-2.0
// JSON Lines in, JSON Lines out: what every filter-like sub-command shares. Order is kept, nothing
// is dropped: a malformed line becomes {"error": "..."} in its place and the run goes on.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "plural/error.h"

namespace plural::app {

/// Keys keep the order in which they are written, so lines read as documented.
using Json = nlohmann::ordered_json;

struct IoPaths {
  std::string in = "-";   ///< "-" = standard input
  std::string out = "-";  ///< "-" = standard output
};
/// Adds --in and --out.
void add_io_options(CLI::App& command, IoPaths* paths);

/// One line without a newline; bytes that are not UTF-8 become U+FFFD, non-finite numbers null.
std::string to_line(const Json& value);

/// A file or standard output, written line by line. Every failure to write (full disk, closed file)
/// throws WriteError naming the path.
class LineWriter {
 public:
  explicit LineWriter(const std::string& path);
  ~LineWriter();
  LineWriter(const LineWriter&) = delete;
  LineWriter& operator=(const LineWriter&) = delete;
  void write(std::string_view line);  ///< appends a newline
  void flush();
  void close();  ///< flushes; call it at the end, the destructor cannot report failures

 private:
  std::string path_;
  std::FILE* file_ = nullptr;
};

/// A file or standard input, read line by line.
class LineReader {
 public:
  explicit LineReader(const std::string& path);
  ~LineReader();
  LineReader(const LineReader&) = delete;
  LineReader& operator=(const LineReader&) = delete;
  bool next(std::string* line);               ///< false at the end; the newline is removed
  int64_t number() const { return number_; }  ///< 1-based number of the line read last
  std::string place() const;                  ///< "file:line"
  /// True when the regular file that is read is the one at `path`, under whatever name.
  bool reads(const std::string& path) const;

 private:
  std::string path_;
  std::FILE* file_ = nullptr;
  int64_t number_ = 0;
  std::vector<char> buffer_;
  size_t begin_ = 0, end_ = 0;
};

/// One input line: its parsed object, or the error that will be written in its place.
struct InputLine {
  Json object;
  std::string place;  ///< "file:line"
  int64_t index = 0;  ///< 0-based
  std::string error;  ///< not empty = unusable
};
/// Reads a line; what is no JSON object is an `error`.
InputLine parse_line(std::string_view text, const std::string& place, int64_t index);

/// nlohmann's messages start with "[json.exception.parse_error.101] "; people do not need that.
std::string plain_message(const std::exception& error);

/// Runs `handle` on each line that holds a JSON object and writes the lines it returns. InputError
/// (and JSON type errors) of a line become its error line. `finish`, if given, makes the lines
/// after the last one. Returns the exit code: 0, or 2 when a line was unusable.
int map_lines(const IoPaths& paths, const std::function<std::vector<Json>(const InputLine&)>& handle,
              const std::function<std::vector<Json>()>& finish = {});

/// What a handler of batches throws when it is stopped in the middle of one: `done` are the results of the first
/// usable lines, those that were finished without a gap.
struct BatchStopped : Interrupted {
  BatchStopped(const std::string& message, std::vector<std::vector<Json>> results)
      : Interrupted(message), done(std::move(results)) {}
  std::vector<std::vector<Json>> done;
};

/// The same with up to `batch` lines at a time, so that a model can work on them together. `handle`
/// gets the usable lines and returns as many lists of output lines; it may set `error` of a line
/// instead. The results in a BatchStopped are written before it goes on to the caller.
int map_batches(const IoPaths& paths, size_t batch,
                const std::function<std::vector<std::vector<Json>>(std::vector<InputLine*>&)>& handle,
                const std::function<std::vector<Json>()>& finish = {});

/// Field access with errors that name the field: throws InputError.
const Json& required(const Json& object, const char* key);
std::string required_string(const Json& object, const char* key);
std::vector<int64_t> required_ids(const Json& object, const char* key);

}  // namespace plural::app
