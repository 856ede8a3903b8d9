// SPDX-License-Identifier: Apache-2.0
#include "lib/external/stop_after.h"

#include <condition_variable>
#include <mutex>

#include "lib/external/subprocess.h"

namespace plural::external {

StopAfter::StopAfter(double seconds, const std::stop_token& other) : relay_(other, Relay{source_}) {
  timer_ = std::jthread([this, deadline = after_s(seconds)](const std::stop_token& over) {
    std::mutex mutex;
    std::condition_variable_any never;
    std::unique_lock lock(mutex);
    never.wait_until(lock, over, deadline, [] { return false; });
    if (over.stop_requested()) return;
    time_is_up_ = true;
    source_.request_stop();
  });
}

}  // namespace plural::external
