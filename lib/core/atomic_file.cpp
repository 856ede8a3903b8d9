// SPDX-License-Identifier: Apache-2.0
// write_file_atomic: temporary file, fsync, rename, fsync of the folder.
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "lib/core/format.h"
#include "plural/checkpoint.h"
#include "plural/error.h"

namespace plural {

void write_file_atomic(const std::filesystem::path& file, std::string_view bytes) {
  const std::string temporary = file.string() + fmt::format(".tmp{}", ::getpid());
  const int fd = ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  const auto fail = [&](const char* what) {
    const int code = errno;
    if (fd >= 0) ::close(fd);
    ::unlink(temporary.c_str());
    throw SystemError(fmt::format("{}: cannot {}: {}; free space or choose another folder, then run again",
                                  file.string(), what, std::strerror(code)));
  };
  if (fd < 0) fail("create the file");
  for (size_t done = 0; done < bytes.size();) {
    const ssize_t n = ::write(fd, bytes.data() + done, bytes.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail("write");
    done += static_cast<size_t>(n);
  }
  if (::fsync(fd) != 0) fail("write to disk");
  ::close(fd);
  if (::rename(temporary.c_str(), file.c_str()) != 0) {
    const int code = errno;
    ::unlink(temporary.c_str());
    throw SystemError(fmt::format("{}: cannot rename into place: {}", file.string(), std::strerror(code)));
  }
  const std::filesystem::path parent = file.has_parent_path() ? file.parent_path() : ".";
  if (const int folder = ::open(parent.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC); folder >= 0) {
    ::fsync(folder);
    ::close(folder);
  }
}

}  // namespace plural
