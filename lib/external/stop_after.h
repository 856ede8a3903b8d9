// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <stop_token>
#include <thread>

namespace plural::external {

/// A request to stop that comes when somebody else's does, or when the time is up.
class StopAfter {
 public:
  StopAfter(double seconds, const std::stop_token& other);
  StopAfter(const StopAfter&) = delete;
  StopAfter& operator=(const StopAfter&) = delete;

  std::stop_token token() const { return source_.get_token(); }
  bool time_is_up() const { return time_is_up_; }

 private:
  struct Relay {
    std::stop_source source;
    void operator()() { source.request_stop(); }
  };
  std::stop_source source_;
  std::atomic<bool> time_is_up_{false};
  std::stop_callback<Relay> relay_;
  std::jthread timer_;  // the first to go
};

}  // namespace plural::external
