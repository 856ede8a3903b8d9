// SPDX-License-Identifier: Apache-2.0
// Waiting for many things outside at once: plain threads, as they sleep nearly all the time.
#pragma once

#include <cstdint>
#include <functional>

namespace plural::external {

/// Calls work(0) ... work(count - 1), at most `threads` at a time, and returns when all have returned. The first
/// exception is thrown again after that; work not begun by then is left out.
void for_each_parallel(int64_t count, int64_t threads, const std::function<void(int64_t)>& work);

}  // namespace plural::external
