// SPDX-License-Identifier: Apache-2.0
// What a program in the sandbox can do, and what it tries in vain.
#include "lib/external/sandbox.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <thread>

#include "plural/error.h"
#include "tests/external/external_support.h"

using namespace plural;
using namespace plural::external;
using namespace plural::testing;
using End = SandboxResult::End;

namespace {

/// False, with a message, where sandboxes cannot be used: the test has then nothing to say.
bool usable() {
  static const std::string problem = Sandbox::problem();
  if (!problem.empty()) WARN("skipped: " << problem);
  return problem.empty();
}

SandboxResult run(const std::string& program, SandboxLimits limits = {}, const std::string& input = "") {
  return Sandbox(limits).run({"/usr/bin/python3", "-I", "/program"}, {{"/program", program}}, input);
}

std::string output_of(const std::string& program, SandboxLimits limits = {}) {
  const SandboxResult result = run("import os, sys, socket, time, signal, subprocess, ctypes\n" + program, limits);
  CHECK(result.end == End::kExit);
  INFO(to_string(result.status));
  CHECK(result.status.success());
  return result.output;
}

/// Tries each expression and prints what came of it: "<name of the exception>" or "done".
std::string attempts(const std::vector<std::string>& expressions) {
  std::string program;
  for (const std::string& expression : expressions)
    program += "try:\n  " + expression + "\n  print('done')\nexcept BaseException as e: print(type(e).__name__)\n";
  return program;
}

/// Each expression must fail with an OSError of some kind: which one is the kernel's choice.
void check_refused(const std::vector<std::string>& expressions) {
  for (const std::string& expression : expressions) {
    INFO(expression);
    CHECK(output_of("try:\n  " + expression + "\n  print('done')\nexcept OSError: print('refused')\n") == "refused\n");
  }
}

std::string lines(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += word + "\n";
  return text;
}

}  // namespace

TEST_CASE("a program runs, reads, writes and ends", "[sandbox]") {
  if (!usable()) return;
  const SandboxResult result = run("import sys\nprint(sys.stdin.read().upper())\nsys.exit(3)", {}, "quiet");
  CHECK(result.end == End::kExit);
  CHECK(result.output == "QUIET\n");
  CHECK(result.status.code == 3);
  CHECK(output_of("open('/tmp/x', 'w').write('y' * 1000)\nprint(len(open('/tmp/x').read()), os.getcwd())") ==
        "1000 /tmp\n");
}

TEST_CASE("no network: not even the loopback of this machine", "[sandbox]") {
  if (!usable()) return;
  const int listener = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  REQUIRE(::bind(listener, reinterpret_cast<sockaddr*>(&address), size) == 0);
  REQUIRE(::listen(listener, 5) == 0);
  REQUIRE(::getsockname(listener, reinterpret_cast<sockaddr*>(&address), &size) == 0);
  const std::string port = std::to_string(ntohs(address.sin_port));
  const std::string call = "import socket\ns = socket.create_connection(('127.0.0.1', " + port + "), 2)\nprint('in')";
  // The same program outside gets through, so the test can fail.
  Subprocess outside({{"python3", "-c", call}, false, {}});
  std::string said;
  exchange(outside, {"", true, false, 100, after_s(20), {}}, &said);
  CHECK(said == "in\n");
  CHECK_FALSE(run(call).status.success());
  CHECK(output_of(attempts({"socket.create_connection(('192.0.2.1', 80), 1)",
                            "socket.getaddrinfo('example.org', 80)"})) == lines({"OSError", "gaierror"}));
  ::close(listener);
}

TEST_CASE("nothing outside of /tmp can be written", "[sandbox]") {
  if (!usable()) return;
  check_refused({"open('/x', 'w')", "open('/usr/x', 'w')", "open('/usr/bin/python3', 'r+')", "open('/etc/x', 'w')",
                 "open('/dev/x', 'w')", "open('/dev/shm/x', 'w')", "open('/program', 'w')", "os.mkdir('/home')",
                 "os.chmod('/usr', 0o777)", "os.unlink('/program')",
                 "open('/proc/sys/kernel/hostname', 'w').write('x')"});
}

TEST_CASE("nothing of the machine but system files can be read", "[sandbox]") {
  if (!usable()) return;
  ::setenv("PLURAL_TEST_SECRET", "4711", 1);
  check_refused({"os.listdir('/root')", "os.listdir('/home')", "os.listdir('/srv')", "open('/etc/passwd')",
                 "open('/etc/shadow')", "os.listdir('/var')", "os.listdir('/sys')", "open('/proc/1/root/etc/passwd')"});
  CHECK(output_of("print(sorted(os.listdir('/')))") ==
        "['bin', 'dev', 'etc', 'lib', 'lib64', 'proc', 'program', 'sbin', 'tmp', 'usr']\n");
  CHECK(output_of("print(os.environ.get('PLURAL_TEST_SECRET'), os.environ['HOME'])") == "None /tmp\n");
  // Process 1 is bubblewrap, which knows no more.
  CHECK(output_of("try: print(b'4711' in open('/proc/1/environ', 'rb').read())\nexcept OSError: print(False)") ==
        "False\n");
  // Nor what processes outside hold open; 3 is the folder that is being listed.
  CHECK(output_of("print(os.listdir('/proc/self/fd'))") == "['0', '1', '2', '3']\n");
  CHECK(output_of("print(len([p for p in os.listdir('/proc') if p.isdigit()]))") == "2\n");
  ::unsetenv("PLURAL_TEST_SECRET");
}

TEST_CASE("links lead nowhere outside", "[sandbox]") {
  if (!usable()) return;
  check_refused({"os.symlink('/root', '/tmp/r'); os.listdir('/tmp/r')",
                 "os.symlink('/proc/1/root', '/tmp/p'); os.listdir('/tmp/p/root')",
                 "os.symlink('../' * 20 + 'etc/shadow', '/tmp/s'); open('/tmp/s')", "os.link('/program', '/tmp/l')",
                 "os.chroot('/proc/1/root')", "os.mknod('/tmp/d', 0o60600, os.makedev(8, 0))"});
}

TEST_CASE("an endless loop ends at the time limit, a busy one at the limit of computing", "[sandbox]") {
  if (!usable()) return;
  SandboxLimits limits;
  limits.time_limit_s = 1;
  CHECK(seconds_of([&] { CHECK(run("import time\nwhile True: time.sleep(1)", limits).end == End::kTimeOut); }) < 10);
  limits.time_limit_s = 60;
  limits.cpu_limit_s = 1;
  const SandboxResult busy = run("while True: pass", limits);
  CHECK(busy.end == End::kExit);
  CHECK_FALSE(busy.status.success());
  // Closing the output does not help.
  limits.time_limit_s = 1;
  CHECK(run("import os, time\nos.close(1)\nos.close(2)\ntime.sleep(1000)", limits).end == End::kTimeOut);
}

TEST_CASE("endless output is cut", "[sandbox]") {
  if (!usable()) return;
  SandboxLimits limits;
  limits.time_limit_s = 60;
  limits.output_kb = 8;
  SandboxResult result;
  CHECK(seconds_of([&] { result = run("while True: print('x' * 1000)", limits); }) < 30);
  CHECK(result.end == End::kTooMuchOutput);
  CHECK(result.output.size() == 8192);
}

TEST_CASE("a fork bomb stays small and leaves nothing behind", "[sandbox]") {
  if (!usable()) return;
  SandboxLimits limits;
  limits.time_limit_s = 2;
  const std::string bomb = "bomb" + own_marker(4712);
  std::atomic<int64_t> most{0};
  {
    std::jthread watch([&](std::stop_token stop) {
      while (!stop.stop_requested()) {
        most = std::max<int64_t>(most, processes_with(bomb));
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
      }
    });
    const SandboxResult result = Sandbox(limits).run(
        {"/usr/bin/python3", "-I", "/program", bomb},
        {{"/program", "import os\nwhile True:\n  try: os.fork()\n  except OSError: pass\n"}}, "");
    CHECK(result.end == End::kTimeOut);
  }
  CHECK(most >= 5);   // it was a bomb
  CHECK(most <= 24);  // max_processes, and the sandbox's own, whose command lines hold the word as well
  CHECK(all_gone(bomb));
}

TEST_CASE("memory, files and descriptors are bounded", "[sandbox]") {
  if (!usable()) return;
  CHECK(output_of(attempts({"x = bytearray(1 << 30)"})) == "MemoryError\n");
  // Not through shared segments or memory files, which no limit counts.
  CHECK(output_of(attempts({"os.memfd_create('x')"})) == "PermissionError\n");
  CHECK(output_of("print(ctypes.CDLL(None).shmget(0, 1 << 20, 0o1600))") == "-1\n");
  // A file as large as the limit kills by SIGXFSZ or fails; many small ones fill /tmp.
  CHECK(output_of("signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n" +
                  attempts({"f = open('/tmp/f', 'wb'); [f.write(bytes(1 << 20)) for i in range(20)]"})) == "OSError\n");
  CHECK(output_of(attempts({"[open(f'/tmp/{i}', 'wb').write(bytes(1 << 20)) for i in range(20)]"})) == "OSError\n");
  CHECK(output_of(attempts({"x = [open('/program') for i in range(100)]"})) == "OSError\n");
}

TEST_CASE("a program cannot reach what runs it", "[sandbox]") {
  if (!usable()) return;
  // Process 1 of the sandbox is bubblewrap; everything it can signal is in the sandbox.
  const SandboxResult result = run(
      "import os, signal\nfor p in (1, os.getppid(), -1, 0):\n  try: os.kill(p, signal.SIGKILL)\n  except OSError: "
      "pass\n");
  CHECK(result.end == End::kExit);
  CHECK_FALSE(result.status.success());
  CHECK(output_of("print(os.getppid())") == "1\n");
  check_refused({"os.kill(" + std::to_string(::getpid()) + ", 0)", "os.setuid(0)", "os.setgroups([0])"});
}

TEST_CASE("a program gains no rights by new namespaces or old doors", "[sandbox]") {
  if (!usable()) return;
  CHECK(output_of("libc = ctypes.CDLL(None, use_errno=True)\n"
                  "for flag in (0x10000000, 0x20000, 0x40000000): print(libc.unshare(flag), ctypes.get_errno())\n"
                  "print(libc.mount(b'none', b'/tmp', b'tmpfs', 0, None), libc.ptrace(0, 0, 0, 0))\n") ==
        lines({"-1 1", "-1 1", "-1 1", "-1 -1"}));
  CHECK(output_of("import threading\nt = threading.Thread(target=print, args=('threads work',)); t.start(); t.join()\n"
                  "print(subprocess.run(['/usr/bin/id', '-u'], capture_output=True, text=True).stdout)") ==
        "threads work\n65534\n\n");
}

TEST_CASE("sockets are local or of the internet, which ends at the sandbox", "[sandbox]") {
  if (!usable()) return;
  // 16 netlink, 38 the kernel's cryptography, 40 the way out of a virtual machine.
  check_refused({"socket.socket(16, socket.SOCK_RAW)", "socket.socket(38, socket.SOCK_SEQPACKET)",
                 "socket.socket(40, socket.SOCK_STREAM)"});
  CHECK(output_of("a, b = socket.socketpair(); a.send(b'pair'); print(b.recv(9))\n"
                  "s = socket.create_server(('127.0.0.1', 0)); c = socket.create_connection(s.getsockname())\n"
                  "c.send(b'loop'); print(s.accept()[0].recv(9))\n"
                  "print(socket.socket(socket.AF_INET6).family.name)") == lines({"b'pair'", "b'loop'", "AF_INET6"}));
}

TEST_CASE("leftover processes end with the program", "[sandbox]") {
  if (!usable()) return;
  const int64_t descriptors = open_descriptors();
  const std::string seconds = own_marker(4713);
  const SandboxResult result = run(
      "import os, time\n"
      "for i in range(3):\n"
      "  if os.fork() == 0:\n"
      "    os.setsid()\n"
      "    os.execv('/usr/bin/sleep', ['sleep', '" +
      seconds +
      "'])\n"
      "print('gone')");
  CHECK(result.end == End::kExit);
  CHECK(result.output == "gone\n");
  CHECK(all_gone(seconds));
  CHECK(children() == 0);
  CHECK(open_descriptors() == descriptors);
}

TEST_CASE("a request to stop ends a run", "[sandbox]") {
  if (!usable()) return;
  std::stop_source stop;
  stop.request_stop();
  SandboxLimits limits;
  limits.time_limit_s = 600;
  const SandboxResult result = Sandbox(limits).run({"/usr/bin/sleep", "600"}, {}, "", stop.get_token());
  CHECK(result.end == End::kStopped);
}
