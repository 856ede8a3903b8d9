// SPDX-License-Identifier: Apache-2.0
// Programs that nobody trusts, run by bubblewrap: no network, a read-only root of system files and nothing else of the
// machine, a small /tmp, and limits on everything that could run away. docs/rewards/code.md says what is kept out how.
#pragma once

#include <cstdint>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "lib/external/subprocess.h"
#include "plural/config.h"

namespace plural::external {

struct SandboxLimits {
  double time_limit_s = 5;
  int64_t cpu_limit_s = 5;
  int64_t memory_mb = 512;
  int64_t max_processes = 16;
  int64_t max_open_files = 64;
  int64_t files_mb = 16;
  int64_t output_kb = 256;

  template <class V>
  void fields(V& v) {
    v.field("time_limit_s", time_limit_s, above(0), "seconds of one run, by the clock");
    v.field("cpu_limit_s", cpu_limit_s, at_least(1), "seconds of computing of each process of a run");
    v.field("memory_mb", memory_mb, at_least(16), "address space of each process of a run, MiB");
    v.field("max_processes", max_processes, at_least(4),
            "processes and threads of a run, three of the sandbox included");
    v.field("max_open_files", max_open_files, at_least(16), "open files of each process of a run");
    v.field("files_mb", files_mb, at_least(1), "space in /tmp, and the largest file, MiB");
    v.field("output_kb", output_kb, at_least(1), "standard output of a run, KiB");
  }
};

/// A file that the program sees, read-only.
struct SandboxFile {
  std::string path;  ///< absolute, not below /usr, /proc, /dev or /tmp
  std::string_view bytes;
};

struct SandboxResult {
  enum class End { kExit, kTimeOut, kTooMuchOutput, kStopped };
  End end = End::kExit;
  ExitStatus status;   ///< for kExit
  std::string output;  ///< what it wrote to standard output, at most output_kb
};

/// Thread-safe: each run has a sandbox of its own, which is gone with all its processes when run() returns.
class Sandbox {
 public:
  /// Tries an empty sandbox. Throws InputError where bubblewrap is absent or the kernel forbids user namespaces.
  explicit Sandbox(SandboxLimits limits);
  /// Runs `command` (absolute path of a program below /usr, arguments) with `input` on its standard input. Whatever the
  /// program does is a result; SystemError when this machine cannot start processes.
  SandboxResult run(const std::vector<std::string>& command, const std::vector<SandboxFile>& files,
                    std::string_view input, std::stop_token stop = {}) const;
  /// Why sandboxes cannot be used here, or "".
  static std::string problem();

 private:
  SandboxLimits limits_;
};

}  // namespace plural::external
