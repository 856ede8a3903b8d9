// SPDX-License-Identifier: Apache-2.0
// TensorBoard event files: TFRecord framing around Event messages, protocol buffers written by hand.
//   record = uint64 length, uint32 masked crc of it, bytes, uint32 masked crc of them (little-endian)
//   Event: 1 wall_time double, 2 step int64, 3 file_version string, 5 summary, 7 session_log {1 status: 1 = START}
//   Summary: 1 value {1 tag string, 2 simple_value float}, repeated
#include <unistd.h>

#include <chrono>
#include <cstring>

#include "lib/core/file_io.h"
#include "lib/core/format.h"
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

std::filesystem::path event_file(const std::filesystem::path& dir) {
  detail::make_folders(dir);
  char host[256] = "localhost";
  ::gethostname(host, sizeof(host) - 1);
  const auto seconds = static_cast<int64_t>(now_s());
  for (int n = 0;; ++n) {
    const auto file = dir / fmt::format("events.out.tfevents.{:010d}.{}.{}.{}", seconds, host, ::getpid(), n);
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
      // Tells TensorBoard to forget what earlier files of this run (before a resume) hold from this step on.
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

std::unique_ptr<MetricSink> make_tensorboard_sink(const std::filesystem::path& dir) {
  return std::make_unique<TensorBoardSink>(dir);
}

}  // namespace plural
