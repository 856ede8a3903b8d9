// SPDX-License-Identifier: Apache-2.0
// A child process in a group of its own, and the one loop that talks to it. Whatever happens, the child is killed and
// waited for (no zombie), every descriptor is closed on exec (no leak), and a dead child's pipe raises no SIGPIPE.
#pragma once

#include <sys/types.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <stop_token>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace plural::external {

using Clock = std::chrono::steady_clock;
using TimePoint = Clock::time_point;

/// `seconds` from now, at most 30 years.
inline TimePoint after_s(double seconds) {
  const std::chrono::duration<double> bounded(std::min(seconds, 1e9));
  return Clock::now() + std::chrono::duration_cast<Clock::duration>(bounded);
}

/// A file descriptor that closes itself.
class Descriptor {
 public:
  explicit Descriptor(int fd = -1) : fd_(fd) {}
  Descriptor(Descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    if (this != &other) {
      reset();
      fd_ = std::exchange(other.fd_, -1);
    }
    return *this;
  }
  ~Descriptor() { reset(); }
  int get() const { return fd_; }
  explicit operator bool() const { return fd_ >= 0; }
  void reset();

 private:
  int fd_;
};

/// An unnamed file that holds `bytes`, to be read from its beginning by a child. Throws SystemError.
Descriptor memory_file(std::string_view bytes);

struct SpawnOptions {
  std::vector<std::string> command;            ///< the program, looked up on the PATH, and its arguments
  bool show_errors = true;                     ///< its standard error is ours; false: it is thrown away
  std::vector<std::pair<int, int>> inherit{};  ///< (our descriptor, its number in the child, 3 to 63)
  bool inherit_environment = true;             ///< false: only a PATH of system folders
};

/// How a child ended.
struct ExitStatus {
  bool by_signal = false;
  int code = 0;  ///< exit code or signal; -1 when the kernel kept none (this process ignores SIGCHLD)
  bool success() const { return !by_signal && code == 0; }
};
/// "exit code 3", "killed by signal 9".
std::string to_string(const ExitStatus& status);

/// Movable, belongs to one thread at a time. The destructor kills.
class Subprocess {
 public:
  Subprocess() = default;
  /// A program that cannot be started throws InputError, a machine without processes or descriptors SystemError.
  explicit Subprocess(const SpawnOptions& options);
  Subprocess(Subprocess&& other) noexcept = default;
  Subprocess& operator=(Subprocess&& other) noexcept;
  ~Subprocess() { kill(); }

  bool started() const { return pid_ > 0; }
  pid_t pid() const { return pid_; }
  int input() const { return input_.get(); }
  int output() const { return output_.get(); }
  void close_input() { input_.reset(); }
  /// Kills the child and its group, and waits for it. Nothing when there is none.
  ExitStatus kill();
  /// Waits until the child has ended; kills it at the deadline.
  ExitStatus wait(TimePoint deadline);

 private:
  struct Pid {  // moves like a unique handle
    pid_t value = -1;
    Pid() = default;
    Pid(Pid&& other) noexcept : value(std::exchange(other.value, -1)) {}
    Pid& operator=(Pid&& other) noexcept {
      value = std::exchange(other.value, -1);
      return *this;
    }
    Pid& operator=(pid_t pid) {
      value = pid;
      return *this;
    }
    operator pid_t() const { return value; }
  };
  Pid pid_;
  Descriptor input_, output_;  // what we write and read
};

/// One turn of a conversation: write all of `input`, read until a newline or the end.
struct Exchange {
  std::string_view input;
  bool end_input = false;      ///< close the child's standard input after it
  bool until_newline = false;  ///< the turn ends with the first newline of the output, which is not kept
  size_t max_output_bytes = 0;
  TimePoint deadline;
  std::stop_token stop;
};
enum class ExchangeEnd {
  kDone,     ///< newline seen, or the output's end where none was asked for
  kClosed,   ///< the child closed its output before the newline
  kTimeOut,  ///< the deadline passed
  kStopped,  ///< stop was requested
  kTooMuch,  ///< the output passed max_output_bytes
};
/// Appends to `output`. After anything but kDone the child is in an unknown state: kill it.
ExchangeEnd exchange(Subprocess& child, const Exchange& turn, std::string* output);

}  // namespace plural::external
