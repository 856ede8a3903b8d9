// SPDX-License-Identifier: Apache-2.0
#include "app/stop_signal.h"

#include <unistd.h>

#include <atomic>
#include <csignal>

#include "lib/train/stop_relay.h"
#include "plural/error.h"

namespace plural::app {
namespace {

std::atomic<bool> stop_flag{false};
static_assert(std::atomic<bool>::is_always_lock_free, "the flag is set inside a signal handler");

void on_signal(int) {
  if (stop_flag.exchange(true)) _exit(130);
  // Only write(2) is safe here; a failure to print is of no consequence.
  constexpr char kText[] = "\nplural: stopping after the work in hand (Ctrl-C again quits at once)\n";
  [[maybe_unused]] const auto written = ::write(STDERR_FILENO, kText, sizeof(kText) - 1);
}

}  // namespace

void install_stop_signals() {
  struct sigaction action = {};
  action.sa_handler = on_signal;
  sigemptyset(&action.sa_mask);
  // No SA_RESTART: a command that waits for a line of input gets EINTR and can stop.
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
  // A file over the size limit then fails with EFBIG, which is reported like a full disk.
  std::signal(SIGXFSZ, SIG_IGN);
}

StopToken stop_token() { return StopToken(&stop_flag); }

std::stop_token stop_request() {
  static const StopRelay relay(stop_token());
  return relay.token();
}

void throw_if_stopped() {
  if (stop_flag.load()) throw Interrupted("stopped by a signal; what was written so far is kept");
}

}  // namespace plural::app
