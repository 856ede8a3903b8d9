// SPDX-License-Identifier: Apache-2.0
#include "lib/external/subprocess.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <set>
#include <thread>

#include "lib/core/format.h"
#include "plural/error.h"

extern char** environ;  // handed on to the child as it is

namespace plural::external {
namespace {

// How soon a request to stop is seen.
constexpr int kSliceMs = 50;

[[noreturn]] void fail(const std::string& what, int code) {
  throw SystemError(fmt::format("{}: {}; end other programs, or use fewer workers", what, std::strerror(code)));
}

struct PipeEnds {
  Descriptor read, write;
};

PipeEnds make_pipe() {
  int fds[2];
  if (::pipe2(fds, O_CLOEXEC) != 0) fail("no pipe to a child process", errno);
  return {Descriptor(fds[0]), Descriptor(fds[1])};
}

void set_nonblocking(int fd) { ::fcntl(fd, F_SETFL, ::fcntl(fd, F_GETFL) | O_NONBLOCK); }

/// Writes without the SIGPIPE that a dead reader would raise, whatever the process does about that signal.
ssize_t write_quietly(int fd, const char* data, size_t size) {
  sigset_t pipe_signal, before, pending;
  sigemptyset(&pipe_signal);
  sigaddset(&pipe_signal, SIGPIPE);
  sigpending(&pending);
  const bool was_pending = sigismember(&pending, SIGPIPE) == 1;
  pthread_sigmask(SIG_BLOCK, &pipe_signal, &before);
  const ssize_t written = ::write(fd, data, size);
  const int code = errno;
  if (written < 0 && code == EPIPE && !was_pending) {
    const timespec now = {0, 0};
    while (sigtimedwait(&pipe_signal, nullptr, &now) < 0 && errno == EINTR) {
    }
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  errno = code;
  return written;
}

ExitStatus status_of(int raw) {
  if (WIFSIGNALED(raw)) return {true, WTERMSIG(raw)};
  return {false, WEXITSTATUS(raw)};
}

int milliseconds_until(TimePoint deadline) {
  const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now()).count();
  return static_cast<int>(std::clamp<int64_t>(left, 0, kSliceMs));
}

/// posix_spawn's two objects, destroyed together.
class SpawnPlan {
 public:
  SpawnPlan() {
    posix_spawn_file_actions_init(&actions);
    posix_spawnattr_init(&attributes);
  }
  ~SpawnPlan() {
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
  }
  SpawnPlan(const SpawnPlan&) = delete;
  SpawnPlan& operator=(const SpawnPlan&) = delete;

  posix_spawn_file_actions_t actions;
  posix_spawnattr_t attributes;
};

}  // namespace

void Descriptor::reset() {
  if (fd_ >= 0) ::close(fd_);
  fd_ = -1;
}

Descriptor memory_file(std::string_view bytes) {
  Descriptor file(::memfd_create("plural", MFD_CLOEXEC));
  if (!file) fail("no memory file for a child process", errno);
  for (size_t at = 0; at < bytes.size();) {
    const ssize_t n = ::write(file.get(), bytes.data() + at, bytes.size() - at);
    if (n < 0 && errno != EINTR) fail("cannot write a memory file", errno);
    if (n > 0) at += static_cast<size_t>(n);
  }
  if (::lseek(file.get(), 0, SEEK_SET) != 0) fail("cannot rewind a memory file", errno);
  return file;
}

std::string to_string(const ExitStatus& status) {
  return fmt::format("{} {}", status.by_signal ? "killed by signal" : "exit code", status.code);
}

Subprocess::Subprocess(const SpawnOptions& options) {
  PLURAL_CHECK(!options.command.empty(), "a child process needs a command");
  PipeEnds in = make_pipe(), out = make_pipe();
  const Descriptor null(options.show_errors ? -1 : ::open("/dev/null", O_WRONLY | O_CLOEXEC));
  if (!options.show_errors && !null) fail("cannot open /dev/null", errno);

  SpawnPlan plan;
  // Targets are small numbers: sources are moved above them first, so that none is overwritten before its turn.
  std::vector<Descriptor> sources;
  const auto give = [&](int source, int target) {
    sources.emplace_back(::fcntl(source, F_DUPFD_CLOEXEC, 64));
    if (!sources.back()) fail("no descriptor for a child process", errno);
    posix_spawn_file_actions_adddup2(&plan.actions, sources.back().get(), target);
  };
  give(in.read.get(), STDIN_FILENO);
  give(out.write.get(), STDOUT_FILENO);
  if (null) give(null.get(), STDERR_FILENO);
  int highest = STDERR_FILENO;
  std::set<int> given;
  for (const auto& [source, target] : options.inherit) {
    PLURAL_CHECK(target > STDERR_FILENO && target < 64, "inherited descriptors are numbered 3 to 63");
    give(source, target);
    highest = std::max(highest, target);
    given.insert(target);
  }
  // Descriptors that other libraries opened without close-on-exec stay here, too.
  for (int fd = STDERR_FILENO + 1; fd < highest; ++fd)
    if (!given.contains(fd)) posix_spawn_file_actions_addclose(&plan.actions, fd);
  posix_spawn_file_actions_addclosefrom_np(&plan.actions, highest + 1);

  sigset_t all, none;
  sigfillset(&all);
  sigemptyset(&none);
  posix_spawnattr_setsigdefault(&plan.attributes, &all);
  posix_spawnattr_setsigmask(&plan.attributes, &none);
  posix_spawnattr_setpgroup(&plan.attributes, 0);
  posix_spawnattr_setflags(&plan.attributes, POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETPGROUP);

  std::vector<char*> argv;
  for (const std::string& argument : options.command) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  char path[] = "PATH=/usr/local/bin:/usr/bin:/bin";
  char* bare[] = {path, nullptr};
  pid_t pid = -1;
  const int code = ::posix_spawnp(&pid, argv[0], &plan.actions, &plan.attributes, argv.data(),
                                  options.inherit_environment ? environ : bare);
  if (code == EAGAIN || code == ENOMEM) fail("cannot start a child process", code);
  if (code != 0) {
    throw InputError(fmt::format("the program '{}' cannot be started: {}; check its name, and that it may be executed",
                                 options.command[0], std::strerror(code)));
  }
  pid_ = pid;
  input_ = std::move(in.write);
  output_ = std::move(out.read);
  set_nonblocking(input_.get());
  set_nonblocking(output_.get());
}

Subprocess& Subprocess::operator=(Subprocess&& other) noexcept {
  if (this != &other) {
    kill();
    pid_ = std::move(other.pid_);
    input_ = std::move(other.input_);
    output_ = std::move(other.output_);
  }
  return *this;
}

ExitStatus Subprocess::kill() {
  if (pid_ <= 0) return {};
  ::kill(-pid_, SIGKILL);
  ::kill(pid_, SIGKILL);  // it may have left its group
  int raw = 0;
  pid_t ended = -1;
  while ((ended = ::waitpid(pid_, &raw, 0)) < 0 && errno == EINTR) {
  }
  pid_ = -1;
  input_.reset();
  output_.reset();
  return ended < 0 ? ExitStatus{false, -1} : status_of(raw);
}

ExitStatus Subprocess::wait(TimePoint deadline) {
  PLURAL_CHECK(started(), "there is no child to wait for");
  // A child that has closed its output is about to end: a short sleep is longer than most of these waits.
  for (auto pause = std::chrono::microseconds(50); Clock::now() < deadline;
       pause = std::min(pause * 2, std::chrono::microseconds(5000))) {
    // Looked at without being collected, so that kill() below still names the right group.
    siginfo_t info = {};
    // An error means that it is gone: somebody in this process ignores SIGCHLD.
    if (::waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED | WNOHANG | WNOWAIT) != 0 || info.si_pid != 0) break;
    std::this_thread::sleep_for(pause);
  }
  return kill();
}

ExchangeEnd exchange(Subprocess& child, const Exchange& turn, std::string* output) {
  size_t sent = 0;
  const size_t start = output->size();
  bool writing = true;
  std::vector<char> buffer(1 << 16);
  for (;;) {
    if (writing && sent == turn.input.size()) {
      writing = false;
      if (turn.end_input) child.close_input();
    }
    pollfd fds[2] = {{child.output(), POLLIN, 0}, {child.input(), POLLOUT, 0}};
    const int ready = ::poll(fds, writing ? 2 : 1, milliseconds_until(turn.deadline));
    if (turn.stop.stop_requested()) return ExchangeEnd::kStopped;
    if (Clock::now() >= turn.deadline) return ExchangeEnd::kTimeOut;  // also for a child that never stops talking
    if (ready <= 0) continue;

    if (writing && fds[1].revents != 0) {
      const ssize_t n = write_quietly(child.input(), turn.input.data() + sent, turn.input.size() - sent);
      if (n > 0) sent += static_cast<size_t>(n);
      if (n < 0 && errno != EAGAIN && errno != EINTR) sent = turn.input.size();  // nobody reads; what it says counts
    }
    if (fds[0].revents == 0) continue;
    const ssize_t n = ::read(child.output(), buffer.data(), buffer.size());
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) continue;
    if (n <= 0) return turn.until_newline ? ExchangeEnd::kClosed : ExchangeEnd::kDone;
    const auto size = static_cast<size_t>(n);
    if (turn.until_newline) {
      if (const void* end = std::memchr(buffer.data(), '\n', size)) {
        output->append(buffer.data(), static_cast<size_t>(static_cast<const char*>(end) - buffer.data()));
        return output->size() - start > turn.max_output_bytes ? ExchangeEnd::kTooMuch : ExchangeEnd::kDone;
      }
    }
    output->append(buffer.data(), size);
    if (output->size() - start > turn.max_output_bytes) return ExchangeEnd::kTooMuch;
  }
}

}  // namespace plural::external
