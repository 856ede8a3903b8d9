// SPDX-License-Identifier: Apache-2.0
#include "lib/external/sandbox.h"

#include <unistd.h>

#include <cmath>

#include "lib/core/format.h"
#include "lib/external/syscall_filter.h"
#include "plural/error.h"

namespace plural::external {
namespace {

// Who a program is, inside and, where we are root, outside: root's processes are counted by no limit.
constexpr const char* kNobody = "65534";
constexpr int kFirstFile = 4;
constexpr int kFilterFile = 3;

void append(std::vector<std::string>& to, const std::vector<std::string>& words) {
  to.insert(to.end(), words.begin(), words.end());
}

std::vector<std::string> sandbox_command(const SandboxLimits& limits, const std::vector<SandboxFile>& files) {
  std::vector<std::string> words;
  if (::geteuid() == 0) append(words, {"setpriv", "--reuid", kNobody, "--regid", kNobody, "--clear-groups", "--"});
  append(words, {"bwrap", "--unshare-all", "--die-with-parent", "--new-session", "--hostname", "sandbox"});
  append(words, {"--uid", kNobody, "--gid", kNobody, "--cap-drop", "ALL"});
  append(words,
         {"--clearenv", "--setenv", "PATH", "/usr/bin", "--setenv", "HOME", "/tmp", "--setenv", "LANG", "C.UTF-8"});
  append(words, {"--ro-bind", "/usr", "/usr"});
  for (const char* name : {"bin", "sbin", "lib", "lib64"})
    append(words, {"--symlink", fmt::format("usr/{}", name), fmt::format("/{}", name)});
  for (const char* path : {"/etc/alternatives", "/etc/ld.so.cache"}) append(words, {"--ro-bind-try", path, path});
  append(words, {"--proc", "/proc", "--dev", "/dev", "--remount-ro", "/dev"});
  append(words, {"--size", std::to_string(limits.files_mb << 20), "--tmpfs", "/tmp", "--chdir", "/tmp"});
  for (size_t i = 0; i < files.size(); ++i)
    append(words, {"--ro-bind-data", std::to_string(kFirstFile + static_cast<int>(i)), files[i].path});
  append(words, {"--remount-ro", "/", "--seccomp", std::to_string(kFilterFile), "--"});
  // Limits are set inside: the kernel counts processes for each user namespace.
  append(words, {"prlimit", fmt::format("--cpu={}", limits.cpu_limit_s), fmt::format("--as={}", limits.memory_mb << 20),
                 fmt::format("--nproc={}", limits.max_processes), fmt::format("--nofile={}", limits.max_open_files),
                 fmt::format("--fsize={}", limits.files_mb << 20), "--core=0", "--"});
  return words;
}

}  // namespace

Sandbox::Sandbox(SandboxLimits limits) : limits_(limits) {
  if (const std::string text = problem(); !text.empty()) {
    throw InputError(
        fmt::format("programs cannot be run safely here: {}. Install bubblewrap and util-linux, and allow "
                    "user namespaces (sysctl kernel.unprivileged_userns_clone=1; for containers an "
                    "unmasked /proc)",
                    text));
  }
}

std::string Sandbox::problem() {
  std::vector<std::string> command = sandbox_command({}, {});
  append(command, {"/usr/bin/true"});
  try {
    const Descriptor filter = memory_file(syscall_filter());
    Subprocess child({command, false, {{filter.get(), kFilterFile}}, false});
    child.close_input();
    const ExitStatus status = child.wait(after_s(20));
    return status.success() ? "" : fmt::format("an empty sandbox ended with {}", to_string(status));
  } catch (const Error& error) {
    return error.what();
  }
}

SandboxResult Sandbox::run(const std::vector<std::string>& command, const std::vector<SandboxFile>& files,
                           std::string_view input, std::stop_token stop) const {
  std::vector<std::string> words = sandbox_command(limits_, files);
  append(words, command);
  std::vector<Descriptor> memory;
  // The program may read the environment of bubblewrap, its parent.
  SpawnOptions options{std::move(words), false, {}, /*inherit_environment=*/false};
  memory.push_back(memory_file(syscall_filter()));
  options.inherit.emplace_back(memory.back().get(), kFilterFile);
  for (size_t i = 0; i < files.size(); ++i) {
    memory.push_back(memory_file(files[i].bytes));
    options.inherit.emplace_back(memory.back().get(), kFirstFile + static_cast<int>(i));
  }

  const TimePoint deadline = after_s(limits_.time_limit_s);
  Subprocess child(options);
  SandboxResult result;
  const auto most = static_cast<size_t>(limits_.output_kb) << 10;
  switch (exchange(child, {input, true, false, most, deadline, stop}, &result.output)) {
    case ExchangeEnd::kTimeOut:
      result.end = SandboxResult::End::kTimeOut;
      break;
    case ExchangeEnd::kTooMuch:
      result.end = SandboxResult::End::kTooMuchOutput;
      break;
    case ExchangeEnd::kStopped:
      result.end = SandboxResult::End::kStopped;
      break;
    default:
      break;
  }
  if (result.output.size() > most) result.output.resize(most);
  if (result.end != SandboxResult::End::kExit) {
    child.kill();
    return result;
  }
  // A program may close its output and go on.
  result.status = child.wait(deadline);
  if (result.status.by_signal && Clock::now() >= deadline) result.end = SandboxResult::End::kTimeOut;
  return result;
}

}  // namespace plural::external
