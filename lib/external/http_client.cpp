// SPDX-License-Identifier: Apache-2.0
#include "lib/external/http_client.h"

#include <curl/curl.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <thread>

#include "lib/core/format.h"
#include "plural/error.h"

namespace plural::external {
namespace {

constexpr size_t kMaxReplyBytes = 4 << 20;
constexpr double kLongestBackoffS = 60;
constexpr auto kSlice = std::chrono::milliseconds(50);

/// False when stopped before `until`.
bool sleep_until(TimePoint until, const std::stop_token& stop) {
  while (!stop.stop_requested()) {
    const auto now = Clock::now();
    if (now >= until) return true;
    std::this_thread::sleep_for(std::min<Clock::duration>(kSlice, until - now));
  }
  return false;
}

size_t receive(char* data, size_t size, size_t count, void* user) {
  auto* body = static_cast<std::string*>(user);
  if (body->size() + size * count > kMaxReplyBytes) return 0;  // curl then ends the transfer with an error
  body->append(data, size * count);
  return size * count;
}

int on_progress(void* user, curl_off_t, curl_off_t, curl_off_t, curl_off_t) {
  return static_cast<const std::stop_token*>(user)->stop_requested() ? 1 : 0;
}

bool worth_retrying(int64_t status) {
  return status == 0 || status == 408 || status == 429 || (status >= 500 && status <= 599);
}

}  // namespace

struct HttpClient::Handle {
  CURL* curl = curl_easy_init();
  Handle() {
    if (!curl) throw SystemError("libcurl cannot be used: no handle; free memory and run again");
  }
  ~Handle() { curl_easy_cleanup(curl); }
  Handle(const Handle&) = delete;
  Handle& operator=(const Handle&) = delete;
};

HttpClient::HttpClient(HttpOptions options) : options_(std::move(options)), places_(options_.concurrency) {
  static const CURLcode ready = curl_global_init(CURL_GLOBAL_DEFAULT);
  if (ready != CURLE_OK) throw SystemError(fmt::format("libcurl cannot be used: {}", curl_easy_strerror(ready)));
}

HttpClient::~HttpClient() = default;

std::unique_ptr<HttpClient::Handle> HttpClient::take() {
  const std::lock_guard lock(mutex_);
  if (idle_.empty()) return std::make_unique<Handle>();
  auto handle = std::move(idle_.back());
  idle_.pop_back();
  return handle;
}

void HttpClient::give_back(std::unique_ptr<Handle> handle) {
  const std::lock_guard lock(mutex_);
  idle_.push_back(std::move(handle));
}

bool HttpClient::wait_for_turn(const std::stop_token& stop) {
  if (options_.requests_per_minute <= 0) return !stop.stop_requested();
  TimePoint turn;
  {
    const std::lock_guard lock(mutex_);
    turn = std::max(Clock::now(), next_start_);
    next_start_ = turn + std::chrono::duration_cast<Clock::duration>(
                             std::chrono::duration<double>(60 / options_.requests_per_minute));
  }
  return sleep_until(turn, stop);
}

/// Returns the seconds that the server asks to wait, 0 when it does not say.
double HttpClient::attempt(const std::string& url, const std::vector<std::string>& headers, const std::string& body,
                           const std::stop_token& stop, HttpReply* reply) {
  auto handle = take();
  CURL* curl = handle->curl;
  struct ListDeleter {
    void operator()(curl_slist* list) const { curl_slist_free_all(list); }
  };
  std::unique_ptr<curl_slist, ListDeleter> lines;
  for (const std::string& header : headers) lines.reset(curl_slist_append(lines.release(), header.c_str()));
  std::array<char, CURL_ERROR_SIZE> error{};
  reply->body.clear();
  curl_easy_setopt(curl, CURLOPT_URL, url.c_str());
  curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
  curl_easy_setopt(curl, CURLOPT_PROXY, options_.proxy.c_str());
  curl_easy_setopt(curl, CURLOPT_NOPROXY, "");  // nor is no_proxy looked at
  curl_easy_setopt(curl, CURLOPT_HTTPHEADER, lines.get());
  curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(body.size()));
  curl_easy_setopt(curl, CURLOPT_POSTFIELDS, body.data());
  curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, static_cast<long>(std::ceil(std::min(options_.time_limit_s, 1e9) * 1000)));
  curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, receive);
  curl_easy_setopt(curl, CURLOPT_WRITEDATA, &reply->body);
  curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
  curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, on_progress);
  curl_easy_setopt(curl, CURLOPT_XFERINFODATA, const_cast<std::stop_token*>(&stop));
  curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, error.data());
  const CURLcode code = curl_easy_perform(curl);
  long status = 0;
  curl_off_t retry_after = 0;
  if (code == CURLE_OK) {
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_getinfo(curl, CURLINFO_RETRY_AFTER, &retry_after);
  }
  curl_easy_reset(curl);  // keeps the connection, and nothing of this call, whose pointers end with it
  reply->status = status;
  if (status == 200) {
    reply->problem.clear();
  } else if (code == CURLE_OK) {
    reply->problem = fmt::format("HTTP status {}: {}", status, reply->body.substr(0, 200));
  } else {
    reply->problem = error[0] != 0 ? error.data() : curl_easy_strerror(code);
  }
  give_back(std::move(handle));
  return static_cast<double>(retry_after);
}

HttpReply HttpClient::post(const std::string& url, const std::vector<std::string>& headers, const std::string& body,
                           const std::stop_token& stop) {
  HttpReply reply;
  reply.problem = "the caller stopped waiting";
  while (!places_.try_acquire_for(kSlice))
    if (stop.stop_requested()) return reply;
  struct Place {
    std::counting_semaphore<>& places;
    ~Place() { places.release(); }
  } place{places_};
  double backoff = options_.backoff_s;
  while (wait_for_turn(stop)) {
    ++reply.attempts;
    const double asked = attempt(url, headers, body, stop, &reply);
    if (!worth_retrying(reply.status) || reply.attempts > options_.retries) break;
    if (!sleep_until(after_s(std::min(std::max(backoff, asked), kLongestBackoffS)), stop)) break;
    backoff *= 2;
  }
  return reply;
}

}  // namespace plural::external
