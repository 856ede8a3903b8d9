// SPDX-License-Identifier: Apache-2.0
// HTTP POST with a time limit, retries, a rate limit and bounded concurrency, over libcurl.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <semaphore>
#include <stop_token>
#include <string>
#include <vector>

#include "lib/external/subprocess.h"
#include "plural/config.h"

namespace plural::external {

struct HttpOptions {
  int64_t concurrency = 8;
  double time_limit_s = 30;
  int64_t retries = 3;
  double backoff_s = 1;
  double requests_per_minute = 0;
  std::string proxy;

  template <class V>
  void fields(V& v) {
    v.field("concurrency", concurrency, between(1, 1024), "requests under way at once");
    v.field("time_limit_s", time_limit_s, above(0), "seconds for one attempt at a request");
    v.field("retries", retries, between(0, 20),
            "further attempts after 408, 429, 5xx, a time-out or a broken connection");
    v.field("backoff_s", backoff_s, at_least(0), "wait before the first retry, doubled for each one after it");
    v.field("requests_per_minute", requests_per_minute, at_least(0), "attempts begun in a minute; 0 = no limit");
    v.field("proxy", proxy, any_value(), "proxy for the requests; empty = none, whatever the environment says");
  }
};

struct HttpReply {
  int64_t status = 0;  ///< of the last attempt; 0 = no answer
  std::string body;    ///< of the last attempt
  int64_t attempts = 0;
  std::string problem;  ///< why there is no reply of status 200, for people; "" when there is one
};

/// Thread-safe.
class HttpClient {
 public:
  explicit HttpClient(HttpOptions options);
  ~HttpClient();
  HttpClient(const HttpClient&) = delete;
  HttpClient& operator=(const HttpClient&) = delete;

  /// Posts JSON. Any failure is a reply with a problem; `stop` ends waits and transfers.
  HttpReply post(const std::string& url, const std::vector<std::string>& headers, const std::string& body,
                 const std::stop_token& stop);
  const HttpOptions& options() const { return options_; }

 private:
  struct Handle;
  std::unique_ptr<Handle> take();
  void give_back(std::unique_ptr<Handle> handle);
  bool wait_for_turn(const std::stop_token& stop);
  double attempt(const std::string& url, const std::vector<std::string>& headers, const std::string& body,
                 const std::stop_token& stop, HttpReply* reply);

  const HttpOptions options_;
  std::counting_semaphore<> places_;
  std::mutex mutex_;
  std::vector<std::unique_ptr<Handle>> idle_;  // with their open connections
  TimePoint next_start_{};
};

}  // namespace plural::external
