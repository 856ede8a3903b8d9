// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <stop_token>
#include <thread>

#include "plural/run.h"

namespace plural {

/// Hands a StopToken, which a signal handler can set, on to what takes a std::stop_token. A thread looks at it twenty
/// times a second.
class StopRelay {
 public:
  explicit StopRelay(StopToken from) {
    if (!from.stop_possible()) return;
    watcher_ = std::jthread([this, from](const std::stop_token& over) {
      std::mutex mutex;
      std::condition_variable_any never;
      std::unique_lock lock(mutex);
      while (!over.stop_requested() && !from.stop_requested())
        never.wait_for(lock, over, std::chrono::milliseconds(50), [] { return false; });
      if (from.stop_requested()) source_.request_stop();
    });
  }
  StopRelay(const StopRelay&) = delete;
  StopRelay& operator=(const StopRelay&) = delete;
  std::stop_token token() const { return source_.get_token(); }

 private:
  std::stop_source source_;
  std::jthread watcher_;  // the first to go
};

}  // namespace plural
