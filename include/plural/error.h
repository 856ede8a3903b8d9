// SPDX-License-Identifier: Apache-2.0
// How plural reports failure: exceptions, as LibTorch does (docs/design/001-errors.md).
// The library never exits, never prints to standard output and never reads an environment variable.
#pragma once

#include <stdexcept>
#include <string>

namespace plural {

/// Base of everything plural throws on purpose. The message says what was expected, what was found,
/// where, and what to do; the `plural` command turns it into exit code `exit_code()`.
class Error : public std::runtime_error {
 public:
  explicit Error(const std::string& message, int exit_code = 1) : std::runtime_error(message), exit_code_(exit_code) {}
  int exit_code() const { return exit_code_; }

 private:
  int exit_code_;
};

/// The user's files, data, configuration or arguments are unusable (exit code 2).
class InputError : public Error {
 public:
  explicit InputError(const std::string& message) : Error(message, 2) {}
};

/// The world failed us: disk full, folder not writable, device lost (exit code 1).
class SystemError : public Error {
 public:
  explicit SystemError(const std::string& message) : Error(message, 1) {}
};

/// Something could not be written: a full disk, a folder that may not be written.
class WriteError : public SystemError {
 public:
  using SystemError::SystemError;
};

/// A model's numbers are not finite: its weights are damaged, or training has diverged.
class DivergedError : public SystemError {
 public:
  using SystemError::SystemError;
};

/// The caller asked to stop (Ctrl-C, a progress callback that returned false); exit code 130, as shells have it.
class Interrupted : public Error {
 public:
  explicit Interrupted(const std::string& message) : Error(message, 130) {}
};

/// A precondition of a public function is broken: a bug in the calling code (exit code 1).
class CheckError : public std::logic_error {
 public:
  using std::logic_error::logic_error;
};

namespace detail {
[[noreturn]] void throw_check(const char* expression, const char* file, int line, const std::string& message);
}  // namespace detail

}  // namespace plural

/// PLURAL_CHECK(condition, message): throws CheckError naming the expression, the place and the message.
/// The message is only built on failure.
#define PLURAL_CHECK(condition, message)                                        \
  do {                                                                          \
    if (!(condition)) [[unlikely]]                                              \
      ::plural::detail::throw_check(#condition, __FILE__, __LINE__, (message)); \
  } while (false)
