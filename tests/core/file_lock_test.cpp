// SPDX-License-Identifier: Apache-2.0
#include "lib/core/file_lock.h"

#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <optional>

#include "plural/error.h"
#include "tests/support/catch.h"
#include "tests/support/temp_dir.h"

using namespace plural;
using Catch::Contains;
using plural::detail::FileLock;

namespace {

/// A process that takes the lock and keeps it until it is killed.
class Holder {
 public:
  explicit Holder(const std::filesystem::path& file) {
    int ready[2];
    REQUIRE(::pipe(ready) == 0);
    child_ = ::fork();
    if (child_ == 0) {
      std::optional<FileLock> lock(std::in_place, file, "test");
      [[maybe_unused]] const ssize_t told = ::write(ready[1], "x", 1);
      for (;;) ::pause();
    }
    ::close(ready[1]);
    char byte;
    REQUIRE(::read(ready[0], &byte, 1) == 1);
    ::close(ready[0]);
  }
  ~Holder() { end(); }
  pid_t pid() const { return child_; }
  void end() {
    if (child_ <= 0) return;
    ::kill(child_, SIGKILL);
    ::waitpid(child_, nullptr, 0);
    child_ = -1;
  }

 private:
  pid_t child_;
};

}  // namespace

TEST_CASE("a second process is told who has the lock; a killed holder leaves none") {
  const TempDir dir;
  Holder holder(dir / "lock");
  const std::string message = thrown<InputError>([&] { FileLock(dir / "lock", "output"); });
  CHECK_THAT(message, Contains("output: ") && Contains((dir / "lock").string()) &&
                          Contains("locked by process " + std::to_string(holder.pid()) + " on ") &&
                          Contains(" since 2"));
  holder.end();
  CHECK(std::filesystem::exists(dir / "lock"));  // stale: it says nothing
  {
    const FileLock lock(dir / "lock", "output");
    CHECK_THAT(read_bytes(dir / "lock"), Catch::StartsWith("process " + std::to_string(::getpid()) + " on "));
    CHECK_THAT(thrown<InputError>([&] { FileLock(dir / "lock", "output"); }), Contains(std::to_string(::getpid())));
  }
  CHECK(dir.entries() == 0);
}

TEST_CASE("a lock file in a folder that is not there is a SystemError naming it") {
  const TempDir dir;
  CHECK_THAT(thrown<SystemError>([&] { FileLock(dir / "absent/lock", "output"); }),
             Contains("absent/lock") && Contains("No such file"));
}

TEST_CASE("of many processes that come and go one has the lock at a time") {
  // Each appends its mark twice while it holds the lock: the marks of two holders never mix.
  const TempDir dir;
  std::vector<pid_t> children;
  for (int c = 0; c < 4; ++c) {
    children.push_back(::fork());
    if (children.back() != 0) continue;
    for (int turn = 0; turn < 50;) {
      try {
        const FileLock lock(dir / "lock", "test");
        for (int half = 0; half < 2; ++half) {
          std::ofstream(dir / "marks", std::ios::app) << static_cast<char>('a' + c);
          ::usleep(200);
        }
        ++turn;
      } catch (const InputError&) {
        ::usleep(100);
      }
    }
    ::_exit(0);
  }
  for (const pid_t child : children) {
    int status = 1;
    ::waitpid(child, &status, 0);
    CHECK(status == 0);
  }
  const std::string marks = read_bytes(dir / "marks");
  REQUIRE(marks.size() == 4 * 50 * 2);
  for (size_t i = 0; i < marks.size(); i += 2) CHECK(marks[i] == marks[i + 1]);
}
