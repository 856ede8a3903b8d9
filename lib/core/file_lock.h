// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <string>

namespace plural::detail {

/// An exclusive lock between processes, held until destruction or until the process ends in any way: the kernel's
/// (flock), so a killed holder leaves no lock, only the file, which the next one takes over. The file says who holds
/// it, for people. On file systems that cannot lock it holds nothing back.
class FileLock {
 public:
  /// Creates or takes over `file`. When another process has the lock, InputError "{purpose}: {file} is locked by
  /// process N on HOST since TIME; ...". A file that cannot be written throws WriteError.
  FileLock(const std::filesystem::path& file, const std::string& purpose);
  /// Removes the file.
  ~FileLock();
  FileLock(const FileLock&) = delete;
  FileLock& operator=(const FileLock&) = delete;

 private:
  std::filesystem::path file_;
  int fd_ = -1;
};

}  // namespace plural::detail
