// SPDX-License-Identifier: Apache-2.0
// TensorBoard event files: TFRecord framing around Event messages, protocol buffers written by hand.
//   record = uint64 length, uint32 masked crc of it, bytes, uint32 masked crc of them (little-endian)
//   Event: 1 wall_time double, 2 step int64, 3 file_version string, 5 summary, 7 session_log {1 status: 1 = START}
//   Summary: 1 value {1 tag string, 2 simple_value float}, repeated
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <vector>

#include "lib/core/file_io.h"
#include "lib/core/format.h"
#include "plural/checkpoint.h"
#include "plural/metrics.h"

namespace plural {
namespace {

class Message {
 public:
  Message& varint(int field, uint64_t value) {
    tag(field, 0);
    raw_varint(value);
    return *this;
  }
  Message& number(int field, double value) { return fixed(field, 1, value); }
  Message& number(int field, float value) { return fixed(field, 5, value); }
  Message& bytes(int field, std::string_view value) {
    tag(field, 2);
    raw_varint(value.size());
    bytes_ += value;
    return *this;
  }
  const std::string& str() const { return bytes_; }

 private:
  void tag(int field, int wire_type) {
    raw_varint(static_cast<uint64_t>(field) << 3 | static_cast<uint64_t>(wire_type));
  }
  void raw_varint(uint64_t value) {
    for (; value >= 0x80; value >>= 7) bytes_ += static_cast<char>(value | 0x80);
    bytes_ += static_cast<char>(value);
  }
  template <class T>
  Message& fixed(int field, int wire_type, T value) {
    tag(field, wire_type);
    char raw[sizeof(T)];
    std::memcpy(raw, &value, sizeof(T));
    bytes_.append(raw, sizeof(T));
    return *this;
  }
  std::string bytes_;
};

double now_s() { return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count(); }

uint32_t masked_crc(std::string_view bytes) {
  const uint32_t crc = detail::crc32c(bytes.data(), bytes.size());
  return ((crc >> 15) | (crc << 17)) + 0xa282ead8u;
}

template <class T>
std::string raw(T value) {
  std::string bytes(sizeof(T), '\0');
  std::memcpy(bytes.data(), &value, sizeof(T));
  return bytes;
}

constexpr const char* kPrefix = "events.out.tfevents.";

template <class T>
T read_raw(std::string_view bytes) {
  T value;
  std::memcpy(&value, bytes.data(), sizeof(T));
  return value;
}

/// The step of an Event: its field 2; 0, the default, when there is none.
uint64_t step_of(std::string_view event) {
  const auto varint = [&event] {
    uint64_t value = 0;
    for (int shift = 0; !event.empty() && shift < 64; shift += 7) {
      const auto byte = static_cast<unsigned char>(event.front());
      event.remove_prefix(1);
      value |= uint64_t{byte & 0x7fu} << shift;
      if (byte < 0x80) break;
    }
    return value;
  };
  while (!event.empty()) {
    const uint64_t tag = varint();
    size_t skip = 0;
    switch (tag & 7) {
      case 0:
        if (const uint64_t value = varint(); tag >> 3 == 2) return value;
        break;
      case 1:
        skip = 8;
        break;
      case 2:
        skip = varint();
        break;
      case 5:
        skip = 4;
        break;
      default:
        return 0;
    }
    event.remove_prefix(std::min(skip, event.size()));
  }
  return 0;
}

/// The records of an event file up to a step. Reading ends at the first damaged one: a killed process left its tail.
std::string records_until(std::string_view bytes, uint64_t last_step) {
  constexpr size_t kHead = 12, kTail = 4;
  std::string kept;
  while (bytes.size() >= kHead + kTail) {
    const auto length = read_raw<uint64_t>(bytes);
    if (read_raw<uint32_t>(bytes.substr(8)) != masked_crc(bytes.substr(0, 8)) || length > bytes.size() - kHead - kTail)
      break;
    const std::string_view event = bytes.substr(kHead, length);
    if (read_raw<uint32_t>(bytes.substr(kHead + length)) != masked_crc(event)) break;
    if (step_of(event) <= last_step) kept += bytes.substr(0, kHead + length + kTail);
    bytes.remove_prefix(kHead + length + kTail);
  }
  return kept;
}

void drop_points_after(const std::filesystem::path& dir, int64_t last_step) {
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(dir))
    if (entry.path().filename().string().starts_with(kPrefix)) files.push_back(entry.path());
  for (const auto& file : files) {
    if (last_step < 0) {
      std::filesystem::remove(file);
      continue;
    }
    const std::string all = detail::read_whole_file(file);
    const std::string kept = records_until(all, static_cast<uint64_t>(last_step));
    if (kept != all) write_file_atomic(file, kept);
  }
}

std::filesystem::path event_file(const std::filesystem::path& dir) {
  char host[256] = "localhost";
  ::gethostname(host, sizeof(host) - 1);
  const auto seconds = static_cast<int64_t>(now_s());
  for (int n = 0;; ++n) {
    const auto file = dir / fmt::format("{}{:010d}.{}.{}.{}", kPrefix, seconds, host, ::getpid(), n);
    if (!std::filesystem::exists(file)) return file;
  }
}

class TensorBoardSink : public MetricSink {
 public:
  explicit TensorBoardSink(const std::filesystem::path& dir) : file_(event_file(dir)) {
    record(Message().number(1, now_s()).bytes(3, "brain.Event:2").str());
  }

  void write(int64_t step, const MetricMap& values) override {
    if (!started_) {
      // Tells a TensorBoard that is watching to forget what it has seen from this step on (before a resume).
      record(Message()
                 .number(1, now_s())
                 .varint(2, static_cast<uint64_t>(step))
                 .bytes(7, Message().varint(1, 1).str())
                 .str());
      started_ = true;
    }
    Message summary;
    for (const auto& [name, value] : values)
      summary.bytes(1, Message().bytes(1, name).number(2, static_cast<float>(value)).str());
    record(Message().number(1, now_s()).varint(2, static_cast<uint64_t>(step)).bytes(5, summary.str()).str());
  }

 private:
  void record(const std::string& event) {
    const std::string length = raw(static_cast<uint64_t>(event.size()));
    file_.append(length + raw(masked_crc(length)) + event + raw(masked_crc(event)));
  }

  detail::AppendFile file_;
  bool started_ = false;
};

}  // namespace

std::unique_ptr<MetricSink> make_tensorboard_sink(const std::filesystem::path& dir, int64_t keep_until_step) {
  detail::make_folders(dir);
  drop_points_after(dir, keep_until_step);
  return std::make_unique<TensorBoardSink>(dir);
}

}  // namespace plural
