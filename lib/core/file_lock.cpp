// SPDX-License-Identifier: Apache-2.0
#include "lib/core/file_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <ctime>

#include "lib/core/format.h"
#include "plural/error.h"

namespace plural::detail {
namespace {

std::string this_process() {
  char host[256] = "this machine";
  ::gethostname(host, sizeof(host) - 1);
  const std::time_t now = std::time(nullptr);
  std::tm utc{};
  ::gmtime_r(&now, &utc);
  char when[32];
  std::strftime(when, sizeof(when), "%Y-%m-%d %H:%M:%S UTC", &utc);
  return fmt::format("process {} on {} since {}", ::getpid(), host, when);
}

std::string read_holder(int fd) {
  char text[512];
  const ssize_t size = ::pread(fd, text, sizeof(text), 0);
  return size > 0 ? std::string(text, static_cast<size_t>(size)) : "another process";
}

/// False when the file was removed (by the holder that just ended) between opening and locking it.
bool is_still_named(int fd, const std::filesystem::path& file) {
  struct stat held {
  }, named{};
  return ::fstat(fd, &held) == 0 && ::stat(file.c_str(), &named) == 0 && held.st_dev == named.st_dev &&
         held.st_ino == named.st_ino;
}

}  // namespace

FileLock::FileLock(const std::filesystem::path& file, const std::string& purpose) : file_(file) {
  const auto fail = [&](const char* what) {
    const int code = errno;
    if (fd_ >= 0) ::close(fd_);
    throw WriteError(fmt::format("{}: cannot {}: {}; free space or choose another folder, then run again",
                                 file.string(), what, std::strerror(code)));
  };
  for (;;) {
    fd_ = ::open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (fd_ < 0) fail("create the lock file");
    if (::flock(fd_, LOCK_EX | LOCK_NB) == 0) {
      if (is_still_named(fd_, file)) break;
    } else if (errno == EWOULDBLOCK) {
      const std::string holder = read_holder(fd_);
      ::close(fd_);
      throw InputError(fmt::format("{}: {} is locked by {}; wait for it or stop it, or choose another folder", purpose,
                                   file.string(), holder));
    } else if (errno != EINTR) {
      break;  // this file system has no locks
    }
    ::close(fd_);
  }
  const std::string holder = this_process();
  if (::ftruncate(fd_, 0) != 0 || ::pwrite(fd_, holder.data(), holder.size(), 0) != static_cast<ssize_t>(holder.size()))
    fail("write the lock file");
}

FileLock::~FileLock() {
  ::unlink(file_.c_str());  // while it is locked, so nobody's but ours
  ::close(fd_);
}

}  // namespace plural::detail
