// SPDX-License-Identifier: Apache-2.0
// File work shared by checkpoints, safetensors and metric sinks: atomic streaming writes, checked reads, CRC-32C.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

#include "plural/error.h"

namespace plural::detail {

/// A file or folder that is there but that the system does not let us read: no permission, an I/O error. What it holds
/// may be sound.
class UnreadableError : public InputError {
 public:
  using InputError::InputError;
};

/// CRC-32C (Castagnoli) of `size` bytes, going on from `crc` (0 at the start).
uint32_t crc32c(const void* data, size_t size, uint32_t crc = 0);
/// The same without CPU instructions of its own.
uint32_t crc32c_portable(const void* data, size_t size, uint32_t crc = 0);

/// Flushes a folder's entries to disk; quietly does nothing where that is not supported.
void sync_folder(const std::filesystem::path& folder);

/// Gives a folder that was filled under another name its own. An older one is swapped out in one call, so that at every
/// moment one of the two is there (on a file system that can swap). Throws WriteError naming the path.
void move_into_place(const std::filesystem::path& temporary, const std::filesystem::path& folder);

/// A file that appears under its name only when complete. Without commit() nothing is left behind.
/// A path that exists and is no regular file (/dev/null, a pipe) is written straight, never replaced.
/// Every failure throws WriteError naming the path.
class AtomicFile {
 public:
  explicit AtomicFile(const std::filesystem::path& file);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  void append(const void* data, size_t size);
  /// fsync, rename into place, fsync of the folder.
  void commit();
  uint64_t size_bytes() const { return size_; }
  uint32_t crc() const { return crc_; }  ///< CRC-32C of what was appended

 private:
  [[noreturn]] void fail(const char* what, int code);
  std::filesystem::path file_;
  std::string temporary_;  ///< empty when writing straight
  int fd_ = -1;
  uint64_t size_ = 0;
  uint32_t crc_ = 0;
};

/// A file opened for reading at any offset. Missing files throw InputError, unreadable ones UnreadableError.
class InputFile {
 public:
  explicit InputFile(const std::filesystem::path& file);
  ~InputFile();
  InputFile(const InputFile&) = delete;
  InputFile& operator=(const InputFile&) = delete;

  uint64_t size_bytes() const { return size_; }
  /// Exactly `size` bytes from `offset`; fewer (the file shrank) throw InputError.
  void read(uint64_t offset, void* data, size_t size) const;
  /// CRC-32C of the whole file.
  uint32_t crc() const;

 private:
  std::filesystem::path file_;
  int fd_ = -1;
  uint64_t size_ = 0;
};

/// A file that grows at its end. A write that fails is undone as far as the disk allows, and throws WriteError.
class AppendFile {
 public:
  explicit AppendFile(const std::filesystem::path& file);
  ~AppendFile();
  AppendFile(const AppendFile&) = delete;
  AppendFile& operator=(const AppendFile&) = delete;

  void append(std::string_view bytes);

 private:
  std::filesystem::path file_;
  int fd_ = -1;
};

/// Creates a folder and its parents; failure throws WriteError.
void make_folders(const std::filesystem::path& folder);

/// The whole file. Missing files throw InputError, unreadable ones UnreadableError.
std::string read_whole_file(const std::filesystem::path& file);

}  // namespace plural::detail
