// SPDX-License-Identifier: Apache-2.0
// Atomic writes: temporary file, fsync, rename, fsync of the folder. Checked reads.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>

#include "lib/core/file_io.h"
#include "lib/core/format.h"
#include "plural/checkpoint.h"
#include "plural/error.h"

namespace plural {
namespace detail {
namespace {

[[noreturn]] void fail_to_open(const std::filesystem::path& file, int code) {
  const std::string message = fmt::format("{}: cannot open the file: {}", file.string(), std::strerror(code));
  if (code == ENOENT || code == ENOTDIR) throw InputError(message);
  throw UnreadableError(message);
}
[[noreturn]] void fail_to_read(const std::filesystem::path& file, int code) {
  throw UnreadableError(fmt::format("{}: cannot read: {}", file.string(), std::strerror(code)));
}

}  // namespace

void sync_folder(const std::filesystem::path& folder) {
  const std::filesystem::path& place = folder.empty() ? "." : folder;
  if (const int fd = ::open(place.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC); fd >= 0) {
    ::fsync(fd);
    ::close(fd);
  }
}

AtomicFile::AtomicFile(const std::filesystem::path& file) : file_(file) {
  std::error_code ignored;
  if (std::filesystem::is_directory(file_, ignored)) fail("write", EISDIR);
  if (std::filesystem::is_other(file_, ignored)) {  // asked before links are resolved: /dev/stdout leads nowhere
    fd_ = ::open(file_.c_str(), O_WRONLY | O_CLOEXEC);
  } else {
    // A link is followed, so that the file it names is replaced and the link stays.
    if (std::filesystem::is_symlink(file_, ignored)) {
      const auto target = std::filesystem::weakly_canonical(file_, ignored);
      if (!ignored) file_ = target;
    }
    static std::atomic<int> counter{0};
    temporary_ = file_.string() + fmt::format(".tmp{}-{}", ::getpid(), counter++);
    fd_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  }
  if (fd_ < 0) fail("create the file", errno);
}

AtomicFile::~AtomicFile() {
  if (fd_ < 0) return;
  ::close(fd_);
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
}

void AtomicFile::fail(const char* what, int code) {
  if (fd_ >= 0) {
    ::close(fd_);
    if (!temporary_.empty()) ::unlink(temporary_.c_str());
    fd_ = -1;
  }
  throw WriteError(fmt::format("{}: cannot {}: {}; free space or choose another folder, then run again", file_.string(),
                               what, std::strerror(code)));
}

void AtomicFile::append(const void* data, size_t size) {
  const char* bytes = static_cast<const char*>(data);
  for (size_t done = 0; done < size;) {
    const ssize_t n = ::write(fd_, bytes + done, size - done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail("write", errno);
    done += static_cast<size_t>(n);
  }
  crc_ = crc32c(data, size, crc_);
  size_ += size;
}

void AtomicFile::commit() {
  if (::fsync(fd_) != 0 && errno != EINVAL && errno != EROFS) fail("write to disk", errno);
  const int fd = fd_;
  fd_ = -1;
  const int closed = ::close(fd);
  if (temporary_.empty()) return;
  if (closed != 0 || ::rename(temporary_.c_str(), file_.c_str()) != 0) {
    const int code = errno;
    ::unlink(temporary_.c_str());
    fail("rename into place", code);
  }
  sync_folder(file_.parent_path());
}

InputFile::InputFile(const std::filesystem::path& file) : file_(file) {
  fd_ = ::open(file.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd_ < 0) fail_to_open(file, errno);
  struct stat info {};
  const int code = ::fstat(fd_, &info) == 0 ? 0 : errno;
  if (code != 0 || !S_ISREG(info.st_mode)) {
    ::close(fd_);
    if (code != 0) fail_to_read(file, code);
    throw InputError(fmt::format("{}: cannot read: expected a regular file", file.string()));
  }
  size_ = static_cast<uint64_t>(info.st_size);
}

InputFile::~InputFile() { ::close(fd_); }

void InputFile::read(uint64_t offset, void* data, size_t size) const {
  char* bytes = static_cast<char*>(data);
  for (size_t done = 0; done < size;) {
    const ssize_t n = ::pread(fd_, bytes + done, size - done, static_cast<off_t>(offset + done));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail_to_read(file_, errno);
    if (n == 0)
      throw InputError(
          fmt::format("{}: the file ends at byte {}, expected {} more", file_.string(), offset + done, size - done));
    done += static_cast<size_t>(n);
  }
}

uint32_t InputFile::crc() const {
  std::string block(1 << 20, '\0');
  uint32_t crc = 0;
  for (uint64_t at = 0; at < size_; at += block.size()) {
    const size_t n = static_cast<size_t>(std::min<uint64_t>(block.size(), size_ - at));
    read(at, block.data(), n);
    crc = crc32c(block.data(), n, crc);
  }
  return crc;
}

AppendFile::AppendFile(const std::filesystem::path& file) : file_(file) {
  fd_ = ::open(file.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (fd_ < 0)
    throw WriteError(fmt::format("{}: cannot open the file for writing: {}", file.string(), std::strerror(errno)));
}

AppendFile::~AppendFile() { ::close(fd_); }

void AppendFile::append(std::string_view bytes) {
  const off_t end = ::lseek(fd_, 0, SEEK_END);
  for (size_t done = 0; done < bytes.size();) {
    const ssize_t n = ::write(fd_, bytes.data() + done, bytes.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) {
      const int code = errno;
      if (end >= 0 && ::ftruncate(fd_, end) != 0) errno = code;  // half a record stays; readers skip it
      throw WriteError(fmt::format("{}: cannot write: {}; free space or choose another folder, then run again",
                                   file_.string(), std::strerror(code)));
    }
    done += static_cast<size_t>(n);
  }
}

void make_folders(const std::filesystem::path& folder) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) throw WriteError(fmt::format("{}: cannot create the folder: {}", folder.string(), error.message()));
}

std::string read_whole_file(const std::filesystem::path& file) {
  // Not by size: standard input and /proc files have none.
  const int fd = ::open(file.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) fail_to_open(file, errno);
  std::string text;
  struct stat info {};
  if (::fstat(fd, &info) == 0 && S_ISREG(info.st_mode)) text.reserve(static_cast<size_t>(info.st_size) + 1);
  std::string block(1 << 16, '\0');
  for (;;) {
    const ssize_t n = ::read(fd, block.data(), block.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) {
      const int code = errno;
      ::close(fd);
      fail_to_read(file, code);
    }
    if (n == 0) break;
    text.append(block.data(), static_cast<size_t>(n));
  }
  ::close(fd);
  return text;
}

}  // namespace detail

void write_file_atomic(const std::filesystem::path& file, std::string_view bytes) {
  detail::AtomicFile out(file);
  out.append(bytes.data(), bytes.size());
  out.commit();
}

}  // namespace plural
