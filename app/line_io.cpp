// SPDX-License-Identifier: Apache-2.0
#include "app/line_io.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "app/stop_signal.h"
#include "lib/core/format.h"
#include "lib/core/json_depth.h"
#include "plural/error.h"

namespace plural::app {
namespace {

std::string shown(const std::string& path, const char* standard) { return path == "-" ? standard : path; }

/// Writes the results of the usable ones among `lines`, and the errors of the others in their places; ends where there
/// are no more results. True when there was an error.
bool write_results(LineWriter& writer, const std::vector<InputLine>& lines, const std::vector<InputLine*>& usable,
                   const std::vector<std::vector<Json>>& results) {
  bool bad = false;
  size_t next = 0;
  for (const InputLine& line : lines) {
    const bool was_usable = next < usable.size() && usable[next] == &line;
    if (was_usable && next == results.size()) break;
    if (line.error.empty()) {
      for (const Json& result : results[next]) writer.write(to_line(result));
    } else {
      bad = true;
      writer.write(to_line(Json{{"error", line.error}}));
    }
    if (was_usable) ++next;
  }
  writer.flush();
  return bad;
}

}  // namespace

void add_io_options(CLI::App& command, IoPaths* paths) {
  command.add_option("--in", paths->in, "read this file; - = standard input")->capture_default_str();
  command.add_option("--out", paths->out, "write this file; - = standard output")->capture_default_str();
}

std::string plain_message(const std::exception& error) {
  std::string text = error.what();
  if (text.starts_with("[json.exception")) {
    const size_t end = text.find("] ");
    if (end != std::string::npos) text.erase(0, end + 2);
  }
  return text;
}

InputLine parse_line(std::string_view text, const std::string& place, int64_t index) {
  InputLine line;
  line.place = place;
  line.index = index;
  if (plural::detail::json_too_deep(text)) {
    line.error = fmt::format("{}: the JSON is nested more than {} deep", line.place, plural::detail::kMaxJsonDepth);
    return line;
  }
  try {
    line.object = Json::parse(text);
    if (!line.object.is_object()) {
      line.error = fmt::format("{}: expected a JSON object, found {}", place, line.object.type_name());
    }
  } catch (const nlohmann::json::exception& error) {
    line.error = fmt::format("{}: not valid JSON: {}", place, plain_message(error));
  }
  return line;
}

std::string to_line(const Json& value) { return value.dump(-1, ' ', false, Json::error_handler_t::replace); }

LineWriter::LineWriter(const std::string& path) : path_(shown(path, "standard output")) {
  file_ = path == "-" ? stdout : std::fopen(path.c_str(), "w");
  if (!file_) throw WriteError(fmt::format("--out {}: cannot be written: {}", path, std::strerror(errno)));
}

LineWriter::~LineWriter() {
  if (file_ && file_ != stdout) std::fclose(file_);
}

void LineWriter::write(std::string_view line) {
  if (std::fwrite(line.data(), 1, line.size(), file_) != line.size() || std::fputc('\n', file_) == EOF) {
    throw WriteError(fmt::format("{}: cannot write: {}; lines before this one are kept", path_, std::strerror(errno)));
  }
}

void LineWriter::flush() {
  if (std::fflush(file_) != 0) {
    throw WriteError(
        fmt::format("{}: cannot write: {}; free space or choose another --out", path_, std::strerror(errno)));
  }
}

void LineWriter::close() { flush(); }

LineReader::LineReader(const std::string& path) : path_(shown(path, "stdin")), buffer_(1 << 16) {
  file_ = path == "-" ? stdin : std::fopen(path.c_str(), "r");
  if (!file_) throw InputError(fmt::format("--in {}: cannot be read: {}", path, std::strerror(errno)));
}

LineReader::~LineReader() {
  if (file_ && file_ != stdin) std::fclose(file_);
}

bool LineReader::next(std::string* line) {
  line->clear();
  bool any = false;
  for (;;) {
    if (begin_ == end_) {
      errno = 0;
      // read in what is there rather than waiting for a full buffer: a pipe may be fed line by line
      const ssize_t n = ::read(::fileno(file_), buffer_.data(), buffer_.size());
      if (n < 0 && errno == EINTR) {
        throw_if_stopped();
        continue;
      }
      if (n < 0) throw InputError(fmt::format("{}: cannot be read: {}", path_, std::strerror(errno)));
      begin_ = 0;
      end_ = static_cast<size_t>(n);
      if (n == 0) {
        if (any) ++number_;
        return any;
      }
    }
    any = true;
    const char* start = buffer_.data() + begin_;
    if (const void* newline = std::memchr(start, '\n', end_ - begin_)) {
      const size_t length = static_cast<size_t>(static_cast<const char*>(newline) - start);
      line->append(start, length);
      begin_ += length + 1;
      ++number_;
      return true;
    }
    line->append(start, end_ - begin_);
    begin_ = end_;
  }
}

bool LineReader::reads(const std::string& path) const {
  struct stat mine {
  }, other{};
  return ::fstat(::fileno(file_), &mine) == 0 && ::stat(path.c_str(), &other) == 0 && S_ISREG(mine.st_mode) &&
         mine.st_dev == other.st_dev && mine.st_ino == other.st_ino;
}

std::string LineReader::place() const { return fmt::format("{}:{}", path_, number_); }

int map_lines(const IoPaths& paths, const std::function<std::vector<Json>(const InputLine&)>& handle,
              const std::function<std::vector<Json>()>& finish) {
  return map_batches(
      paths, 1, [&](std::vector<InputLine*>& lines) { return std::vector<std::vector<Json>>{handle(*lines.front())}; },
      finish);
}

int map_batches(const IoPaths& paths, size_t batch,
                const std::function<std::vector<std::vector<Json>>(std::vector<InputLine*>&)>& handle,
                const std::function<std::vector<Json>()>& finish) {
  LineReader reader(paths.in);
  if (reader.reads(paths.out))  // opening it for writing would empty it before a line is read
    throw InputError(fmt::format("--out {}: is the file that the lines are read from; choose another", paths.out));
  LineWriter writer(paths.out);
  bool bad = false;
  bool more = true;
  std::string text;
  while (more) {
    std::vector<InputLine> lines;
    while (lines.size() < batch && (more = reader.next(&text)))
      lines.push_back(parse_line(text, reader.place(), reader.number() - 1));
    throw_if_stopped();
    if (lines.empty()) break;

    std::vector<InputLine*> usable;
    for (InputLine& line : lines) {
      if (line.error.empty()) usable.push_back(&line);
    }
    std::vector<std::vector<Json>> results;
    if (!usable.empty()) {
      try {
        results = handle(usable);
        PLURAL_CHECK(results.size() == usable.size(), "a handler answers every usable line");
      } catch (const BatchStopped& stopped) {
        write_results(writer, lines, usable, stopped.done);
        throw;
      } catch (const InputError& error) {
        if (usable.size() > 1) throw;  // handlers of batches set the error of the line themselves
        usable.front()->error = fmt::format("{}: {}", usable.front()->place, error.what());
        results.resize(1);
      } catch (const nlohmann::json::exception& error) {
        if (usable.size() > 1) throw;
        usable.front()->error = fmt::format("{}: {}", usable.front()->place, plain_message(error));
        results.resize(1);
      }
    }
    bad = write_results(writer, lines, usable, results) || bad;
  }
  if (finish) {
    for (const Json& result : finish()) writer.write(to_line(result));
  }
  writer.close();
  if (bad) fmt::print(stderr, "plural: some input lines were unusable; see the lines with \"error\" in the output\n");
  return bad ? 2 : 0;
}

const Json& required(const Json& object, const char* key) {
  const auto it = object.find(key);
  if (it == object.end()) throw InputError(fmt::format("field '{}' is missing", key));
  return *it;
}

std::string required_string(const Json& object, const char* key) {
  const Json& value = required(object, key);
  if (!value.is_string())
    throw InputError(fmt::format("field '{}': expected a string, found {}", key, value.type_name()));
  return value.get<std::string>();
}

std::vector<int64_t> required_ids(const Json& object, const char* key) {
  const Json& value = required(object, key);
  if (!value.is_array())
    throw InputError(fmt::format("field '{}': expected a list of ids, found {}", key, value.type_name()));
  std::vector<int64_t> ids;
  ids.reserve(value.size());
  for (const Json& id : value) {
    if (!id.is_number_integer() || id.get<double>() < 0 || id.get<double>() > 9e15) {
      throw InputError(fmt::format("field '{}': entry {} is {}, expected a non-negative whole number", key, ids.size(),
                                   to_line(id)));
    }
    ids.push_back(id.get<int64_t>());
  }
  return ids;
}

}  // namespace plural::app
