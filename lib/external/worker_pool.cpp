// SPDX-License-Identifier: Apache-2.0
#include "lib/external/worker_pool.h"

#include <algorithm>
#include <numeric>

#include "lib/core/format.h"
#include "lib/core/json_depth.h"
#include "lib/external/parallel.h"
#include "plural/error.h"

namespace plural::external {
namespace {

using Json = nlohmann::json;

constexpr size_t kMaxReplyBytes = 64 << 20;
// How long a worker may take to end by itself once its input is closed.
constexpr double kFarewellS = 1.0;

std::string to_line(const Json& value) { return value.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n"; }

std::string shown(const std::string& text) { return text.size() <= 200 ? text : text.substr(0, 200) + "..."; }

/// A request failed; the worker is of no use any more.
struct RequestFailure {
  bool time_out;
  std::string reason;
};

/// One line to the worker, one line back, as JSON. Throws RequestFailure.
Json converse(Subprocess& worker, const Json& message, TimePoint deadline, const std::stop_token& stop) {
  const std::string line = to_line(message);
  std::string reply;
  const ExchangeEnd end = exchange(worker, {line, false, true, kMaxReplyBytes, deadline, stop}, &reply);
  switch (end) {
    case ExchangeEnd::kDone:
      break;
    case ExchangeEnd::kClosed:
      throw RequestFailure{false, fmt::format("it ended ({})", to_string(worker.wait(after_s(kFarewellS))))};
    case ExchangeEnd::kTimeOut:
      throw RequestFailure{true, "it ran out of time and was killed"};
    case ExchangeEnd::kStopped:
      throw RequestFailure{false, "the caller stopped waiting"};
    case ExchangeEnd::kTooMuch:
      throw RequestFailure{false, fmt::format("its reply has more than {} bytes", kMaxReplyBytes)};
  }
  Json parsed = detail::json_too_deep(reply) ? Json() : Json::parse(reply, nullptr, false);
  if (!parsed.is_object())
    throw RequestFailure{false, fmt::format("expected one JSON object a line, found '{}'", shown(reply))};
  return parsed;
}

}  // namespace

/// The items of one request, by their place in the call, and what was counted while it ran.
struct WorkerPool::Request {
  const std::vector<Json>& items;
  std::vector<size_t> places;
  std::vector<Json> results = {};  // one for each place
  WorkerAnswers counts = {};
};

WorkerPool::WorkerPool(WorkerOptions options) : options_(std::move(options)) {
  PLURAL_CHECK(options_.workers >= 1 && options_.batch >= 1, "a pool has workers, and a request items");
}

WorkerPool::~WorkerPool() {
  for (Subprocess& worker : idle_) worker.close_input();
  const TimePoint deadline = after_s(kFarewellS);
  for (Subprocess& worker : idle_) worker.wait(deadline);
}

Subprocess WorkerPool::start(const std::stop_token& stop) {
  Subprocess worker({options_.command, true, {}});
  Json greeting;
  try {
    greeting = converse(worker, {{"plural_worker", kWorkerProtocol}}, after_s(options_.start_limit_s), stop);
  } catch (const RequestFailure& failure) {
    throw RequestFailure{failure.time_out, fmt::format("no greeting: {}", failure.reason)};
  }
  if (greeting.value("plural_worker", Json()) != Json(kWorkerProtocol)) {
    throw RequestFailure{false, fmt::format("its greeting must be {{\"plural_worker\": {}, ...}}, found {}",
                                            kWorkerProtocol, shown(to_line(greeting)))};
  }
  return worker;
}

Subprocess WorkerPool::take(const std::stop_token& stop, Request& request) {
  {
    std::unique_lock lock(mutex_);
    if (!free_.wait(lock, stop, [this] { return out_ < options_.workers; }))
      throw RequestFailure{false, "the caller stopped waiting"};
    ++out_;
    if (!idle_.empty()) {
      Subprocess worker = std::move(idle_.back());
      idle_.pop_back();
      return worker;
    }
  }
  ++request.counts.starts;
  try {
    Subprocess worker = start(stop);
    const std::lock_guard lock(mutex_);
    ever_ready_ = true;
    return worker;
  } catch (...) {
    give_back({});
    throw;
  }
}

void WorkerPool::give_back(Subprocess worker) {
  {
    const std::lock_guard lock(mutex_);
    --out_;
    if (worker.started()) idle_.push_back(std::move(worker));
  }
  free_.notify_one();
}

void WorkerPool::run(const std::string& kind, Request& request, const std::stop_token& stop) {
  request.results.assign(request.places.size(), Json());
  if (stop.stop_requested()) {  // start no worker for it
    request.counts.failures += static_cast<int64_t>(request.places.size());
    request.counts.problem = "the caller stopped waiting";
    return;
  }
  Json message = {{"kind", kind}, {"items", Json::array()}};
  for (const size_t place : request.places) message["items"].push_back(request.items[place]);
  {
    const std::lock_guard lock(mutex_);
    message["id"] = ++next_id_;
  }
  try {
    Subprocess worker = take(stop, request);
    Json results;
    try {
      const Json reply = converse(worker, message, after_s(options_.time_limit_s), stop);
      results = reply.value("results", Json());
      if (reply.value("id", Json()) != message["id"])
        throw RequestFailure{false, fmt::format("expected the reply to request {}, found id {}", message["id"].dump(),
                                                reply.value("id", Json()).dump())};
      if (!results.is_array() || results.size() != request.places.size())
        throw RequestFailure{false, fmt::format("expected {} results, found {}", request.places.size(),
                                                results.is_array() ? std::to_string(results.size()) : "none")};
    } catch (...) {
      worker.kill();
      give_back({});
      throw;
    }
    give_back(std::move(worker));
    for (size_t i = 0; i < results.size(); ++i) {
      if (results[i].is_object() && !results[i].contains("error")) {
        request.results[i] = std::move(results[i]);
        continue;
      }
      ++request.counts.failures;
      if (request.counts.problem.empty()) request.counts.problem = shown(results[i].dump());
    }
    return;
  } catch (const RequestFailure& failure) {
    ++(failure.time_out ? request.counts.time_outs : request.counts.crashes);
    if (request.counts.problem.empty()) request.counts.problem = failure.reason;
  } catch (const Error& error) {
    ++request.counts.crashes;
    if (request.counts.problem.empty()) request.counts.problem = error.what();
  }
  {
    const std::lock_guard lock(mutex_);
    if (!ever_ready_ && !stop.stop_requested()) {
      throw InputError(fmt::format("the worker '{}' cannot be used: {}; run it by hand to see what it says",
                                   fmt::join(options_.command, " "), request.counts.problem));
    }
  }
  if (request.places.size() == 1 || stop.stop_requested()) {
    request.counts.failures += static_cast<int64_t>(request.places.size());
    return;
  }
  for (size_t i = 0; i < request.places.size(); ++i) {
    Request single{request.items, {request.places[i]}};
    run(kind, single, stop);
    request.results[i] = std::move(single.results[0]);
    request.counts.failures += single.counts.failures;
    request.counts.time_outs += single.counts.time_outs;
    request.counts.crashes += single.counts.crashes;
    request.counts.starts += single.counts.starts;
  }
}

WorkerAnswers WorkerPool::ask(const std::string& kind, const std::vector<Json>& items, std::stop_token stop) {
  // Small calls are spread over all workers.
  const auto workers = static_cast<size_t>(options_.workers);
  const size_t batch = std::clamp<size_t>((items.size() + workers - 1) / workers, 1,
                                          static_cast<size_t>(options_.batch));
  std::vector<Request> requests;
  for (size_t begin = 0; begin < items.size(); begin += batch) {
    std::vector<size_t> places(std::min(batch, items.size() - begin));
    std::iota(places.begin(), places.end(), begin);
    requests.push_back({items, std::move(places)});
  }
  for_each_parallel(static_cast<int64_t>(requests.size()), options_.workers,
                    [&](int64_t i) { run(kind, requests[static_cast<size_t>(i)], stop); });

  WorkerAnswers answers;
  answers.results.resize(items.size());
  for (Request& request : requests) {
    for (size_t i = 0; i < request.places.size(); ++i)
      answers.results[request.places[i]] = std::move(request.results[i]);
    answers.failures += request.counts.failures;
    answers.time_outs += request.counts.time_outs;
    answers.crashes += request.counts.crashes;
    answers.starts += request.counts.starts;
    if (answers.problem.empty()) answers.problem = request.counts.problem;
  }
  return answers;
}

}  // namespace plural::external
