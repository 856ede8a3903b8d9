// SPDX-License-Identifier: Apache-2.0
// Asking another model behind an OpenAI-compatible chat endpoint, with replies kept on disk.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <stop_token>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "lib/external/http_client.h"
#include "lib/external/reply_cache.h"
#include "plural/config.h"
#include "plural/dataset.h"

namespace plural::external {

struct ChatOptions {
  std::string url;
  std::string model;
  std::string api_key_env;
  std::string system;
  int64_t max_tokens = 16;
  double temperature = 0;
  std::string cache;
  HttpOptions http;

  template <class V>
  void fields(V& v) {
    v.field("url", url, required_value(), "the endpoint, e.g. http://localhost:8000/v1/chat/completions");
    v.field("model", model, required_value(), "the model that the endpoint is asked for");
    v.field("api_key_env", api_key_env, any_value(), "environment variable with the API key; empty = no key");
    v.field("system", system, any_value(), "system message; empty = none");
    v.field("max_tokens", max_tokens, at_least(1), "longest reply, in the endpoint's tokens");
    v.field("temperature", temperature, at_least(0), "sampling temperature of the judge");
    v.field("cache", cache, any_value(), "folder that keeps replies; empty = none");
    http.fields(v);
  }
};

/// What became of one request.
struct ChatReply {
  std::string text;  ///< what the model said; "" when there is a problem
  int64_t attempts = 0;
  bool from_cache = false;
  bool cache_error = false;  ///< the reply could not be kept
  std::string problem;       ///< why there is no usable reply, for people; "" when there is one
};

/// Thread-safe.
class ChatClient {
 public:
  /// `variables` is asked for the key. Throws InputError when that is not there.
  ChatClient(ChatOptions options, const VariableLookup& variables);

  /// The request that asks `message` of the model, as JSON text. Equal requests have equal texts.
  std::string request(const std::string& message) const;
  /// A reply that is not `usable` counts as a failure, found in place of `expected`, and is not kept.
  ChatReply ask(const std::string& request, const std::stop_token& stop,
                const std::function<bool(const std::string&)>& usable, const std::string& expected) const;

 private:
  bool keep(const std::string& key, const std::string& text) const;

  ChatOptions options_;
  std::vector<std::string> headers_;
  ReplyCache cache_;
  mutable HttpClient http_;
};

/// Adds a reply to the counts "requests" (attempts), "retries", "cache_hits", "failures" and "cache_errors".
void count(const ChatReply& reply, std::map<std::string, double>& counts);

/// Asks whether an answer means the same as a gold answer.
inline constexpr const char* kJudgePrompt =
    "Question:\n{question}\n\nAccepted answers: {gold}\n\nProposed answer: {answer}\n\n"
    "Does the proposed answer mean the same as one of the accepted answers? Reply with yes or no only.";

/// The template with names replaced by values, in one pass: what a model wrote is never looked into for names.
std::string fill_template(std::string_view text, std::span<const std::pair<std::string_view, std::string>> values);

/// The last thing that the user says in the example's prompt.
std::string question_of(const Example& example);

/// The example's gold answers, "a; b; c".
std::string gold_text(const Example& example);

}  // namespace plural::external
