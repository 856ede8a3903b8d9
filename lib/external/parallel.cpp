// SPDX-License-Identifier: Apache-2.0
#include "lib/external/parallel.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

namespace plural::external {

void for_each_parallel(int64_t count, int64_t threads, const std::function<void(int64_t)>& work) {
  std::atomic<int64_t> next{0};
  std::mutex mutex;
  std::exception_ptr error;
  const auto run = [&] {
    for (int64_t i = next++; i < count; i = next++) {
      try {
        work(i);
      } catch (...) {
        const std::lock_guard lock(mutex);
        if (!error) error = std::current_exception();
        next = count;
      }
    }
  };
  {
    std::vector<std::jthread> others;
    try {
      for (int64_t t = 1; t < std::min(threads, count); ++t) others.emplace_back(run);
    } catch (const std::system_error&) {
      // The machine has no more threads: those that there are do all the work.
    }
    run();
  }
  if (error) std::rethrow_exception(error);
}

}  // namespace plural::external
