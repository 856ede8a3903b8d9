// SPDX-License-Identifier: Apache-2.0
// Worker processes that speak JSON lines over standard input and output (docs/rewards/external.md is the protocol).
#pragma once

#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>
#include <stop_token>
#include <string>
#include <vector>

#include "lib/external/subprocess.h"
#include "plural/config.h"

namespace plural::external {

inline constexpr int kWorkerProtocol = 1;

struct WorkerOptions {
  std::vector<std::string> command;
  int64_t workers = 2;         ///< processes, and so requests at a time
  int64_t batch = 16;          ///< items of one request
  double time_limit_s = 10;    ///< one request; a worker that takes longer is killed
  double start_limit_s = 120;  ///< from the start of a worker to its greeting

  template <class V>
  void fields(V& v) {
    v.field("command", command, required_value(), "the worker program and its arguments, a list");
    v.field("workers", workers, between(1, 256), "worker processes");
    v.field("batch", batch, between(1, 4096), "items sent in one request");
    v.field("time_limit_s", time_limit_s, above(0), "seconds for one request; a worker that takes longer is killed");
    v.field("start_limit_s", start_limit_s, above(0), "seconds for a worker to start and greet");
  }
};

/// What became of the items of one call.
struct WorkerAnswers {
  std::vector<nlohmann::json> results;  ///< one object for each item; null where it failed
  int64_t failures = 0;                 ///< items without a result
  int64_t time_outs = 0;                ///< requests that ran out of time
  int64_t crashes = 0;                  ///< requests during which the worker died, or said what is not in the protocol
  int64_t starts = 0;                   ///< workers started, the first ones included
  std::string problem;                  ///< the first failure, for people
};

/// Starts workers when they are first needed, and a new one for each that was killed or died. Thread-safe. Workers end
/// with the pool: their input is closed, and they are killed if that does not end them soon.
class WorkerPool {
 public:
  explicit WorkerPool(WorkerOptions options);
  ~WorkerPool();
  WorkerPool(const WorkerPool&) = delete;
  WorkerPool& operator=(const WorkerPool&) = delete;

  /// Asks all items, `batch` to a request. When a request of several items fails, its items are asked again one by one,
  /// so that only those fail that cannot be answered. Never throws because of what a worker does, but InputError when
  /// no worker could be started yet. After `stop`, what is not answered yet fails.
  WorkerAnswers ask(const std::string& kind, const std::vector<nlohmann::json>& items, std::stop_token stop = {});

 private:
  struct Request;
  void run(const std::string& kind, Request& request, const std::stop_token& stop);
  Subprocess take(const std::stop_token& stop, Request& request);
  void give_back(Subprocess worker);
  Subprocess start(const std::stop_token& stop);

  const WorkerOptions options_;
  std::mutex mutex_;
  std::condition_variable_any free_;
  std::vector<Subprocess> idle_;
  int64_t out_ = 0;  // workers at work or being started
  bool ever_ready_ = false;
  int64_t next_id_ = 0;
};

}  // namespace plural::external
