// SPDX-License-Identifier: Apache-2.0
#include "lib/external/subprocess.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <cstdio>
#include <thread>

#include "lib/external/parallel.h"
#include "plural/error.h"
#include "tests/external/external_support.h"

using namespace plural;
using namespace plural::external;
using namespace plural::testing;

TEST_CASE("a child reads what we write and says what it says") {
  Subprocess child({{"cat"}, true, {}});
  std::string out;
  CHECK(exchange(child, {"one\ntwo\n", false, true, 100, after_s(20), {}}, &out) == ExchangeEnd::kDone);
  CHECK(out == "one");  // what follows the newline in the same turn is not part of the protocol
  Subprocess other({{"sh", "-c", "cat; exit 3"}, true, {}});
  out.clear();
  // More than a pipe holds, in both directions at once.
  const std::string much(3 << 20, 'x');
  CHECK(exchange(other, {much, true, false, much.size(), after_s(20), {}}, &out) == ExchangeEnd::kDone);
  CHECK(out == much);
  const ExitStatus status = other.wait(after_s(20));
  CHECK(to_string(status) == "exit code 3");
}

TEST_CASE("every way in which a turn can end") {
  std::string out;
  const auto turn_of = [&](const std::string& script, double limit, size_t most, std::stop_token stop = {}) {
    Subprocess child({{"sh", "-c", script}, true, {}});
    out.clear();
    return exchange(child, {"hello\n", false, true, most, after_s(limit), stop}, &out);
  };
  CHECK(turn_of("echo hi; sleep 100", 20, 100) == ExchangeEnd::kDone);
  CHECK(turn_of("printf hi", 20, 100) == ExchangeEnd::kClosed);
  CHECK(turn_of("exec <&-; sleep 0.2; echo late", 20, 100) == ExchangeEnd::kDone);  // nobody reads: no SIGPIPE
  CHECK(turn_of("sleep 100", 0.2, 100) == ExchangeEnd::kTimeOut);
  CHECK(turn_of("while :; do printf x; done", 20, 100) == ExchangeEnd::kTooMuch);
  CHECK(turn_of("while :; do printf x; sleep 0.01; done", 0.3, 1 << 20) == ExchangeEnd::kTimeOut);
  std::stop_source stop;
  std::jthread later([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
    stop.request_stop();
  });
  CHECK(seconds_of([&] { CHECK(turn_of("sleep 100", 60, 100, stop.get_token()) == ExchangeEnd::kStopped); }) < 10);
}

TEST_CASE("no zombie, no leftover process, no leaked descriptor") {
  const int64_t before = open_descriptors();
  const std::string seconds = own_marker(4711);
  for (int i = 0; i < 20; ++i) {
    Subprocess child({{"sh", "-c", "sleep " + seconds + " & sleep " + seconds}, i % 2 == 0, {}});
    Subprocess moved = std::move(child);
    if (i % 3 == 0) moved.kill();
    CHECK_FALSE(child.started());
  }
  CHECK(open_descriptors() == before);
  CHECK(children() == 0);
  CHECK(all_gone(seconds));  // the group is killed, not only its leader
}

TEST_CASE("a child that has left its group is killed all the same") {
  Subprocess child({{"python3", "-c",
                     "import os, time; os.setpgid(0, os.getpgid(os.getppid())); print('moved', flush=True); "
                     "time.sleep(30)"},
                    true,
                    {}});
  std::string out;
  CHECK(exchange(child, {"", false, true, 100, after_s(20), {}}, &out) == ExchangeEnd::kDone);
  CHECK(out == "moved");
  ExitStatus status;
  CHECK(seconds_of([&] { status = child.kill(); }) < 10);
  CHECK(to_string(status) == "killed by signal 9");
}

TEST_CASE("an end that the kernel has not kept is no success") {
  ::signal(SIGCHLD, SIG_IGN);
  Subprocess child({{"false"}, true, {}});
  const ExitStatus status = child.wait(after_s(20));
  ::signal(SIGCHLD, SIG_DFL);
  CHECK_FALSE(status.success());
}

TEST_CASE("a time limit without end is a time in the future") {
  CHECK(after_s(1e300) > Clock::now() + std::chrono::hours(24));
}

TEST_CASE("a child sees the descriptors it is given and no others") {
  const int stray = ::open("/dev/null", O_RDONLY);  // without close-on-exec
  const Descriptor file = memory_file("in memory");
  Subprocess child({{"sh", "-c", "cat <&5; ls /proc/self/fd | tr '\\n' ' '"}, true, {{file.get(), 5}}});
  std::string out;
  CHECK(exchange(child, {"", true, false, 1000, after_s(20), {}}, &out) == ExchangeEnd::kDone);
  // 3 is the folder that ls reads.
  CHECK(out == "in memory0 1 2 3 5 ");
  ::close(stray);
}

TEST_CASE("a child begins with no signal blocked or ignored") {
  ::signal(SIGPIPE, SIG_IGN);
  Subprocess child({{"sh", "-c", "grep -E 'SigBlk|SigIgn' /proc/self/status"}, true, {}});
  std::string out;
  exchange(child, {"", true, false, 1000, after_s(20), {}}, &out);
  ::signal(SIGPIPE, SIG_DFL);
  // Bits 31 and 32 are glibc's own signals, which its posix_spawn may leave ignored.
  unsigned long long blocked = 1, ignored = 1;
  REQUIRE(std::sscanf(out.c_str(), "SigBlk: %llx SigIgn: %llx", &blocked, &ignored) == 2);
  CHECK(blocked == 0);
  CHECK((ignored & ~0x180000000ULL) == 0);
}

TEST_CASE("a program that does not exist is an InputError") {
  CHECK_THROWS_WITH(Subprocess({{"/no/such/program"}, true, {}}),
                    Catch::Contains("'/no/such/program' cannot be started"));
}

TEST_CASE("parallel work is all done, bounded, and its first exception comes back") {
  std::atomic<int> now{0}, most{0}, done{0};
  for_each_parallel(40, 4, [&](int64_t) {
    const int running = ++now;
    for (int seen = most; seen < running && !most.compare_exchange_weak(seen, running);) {
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
    --now;
    ++done;
  });
  CHECK(done == 40);
  CHECK(most >= 2);
  CHECK(most <= 4);
  CHECK_THROWS_WITH(for_each_parallel(100, 3,
                                      [](int64_t i) {
                                        if (i == 5) throw InputError("five");
                                      }),
                    "five");
  CHECK_NOTHROW(for_each_parallel(0, 3, [](int64_t) { throw InputError("never"); }));
}
