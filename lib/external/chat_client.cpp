// SPDX-License-Identifier: Apache-2.0
#include "lib/external/chat_client.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>

#include "lib/core/format.h"
#include "lib/core/json_depth.h"
#include "plural/error.h"

namespace plural::external {
namespace {

using Json = nlohmann::json;

/// The key that `variable` holds. It goes into a header line and nowhere else.
std::string read_api_key(const std::string& variable, const VariableLookup& variables) {
  if (variable.empty()) return "";
  if (!variables) {
    throw InputError(
        fmt::format("api_key_env: this program gives rewards and matchers no variables, so '{}' cannot be read; pass a "
                    "lookup to builtin_rewards() or make_matcher()",
                    variable));
  }
  const std::optional<std::string> key = variables(variable);
  if (!key || key->empty())
    throw InputError(
        fmt::format("api_key_env: the environment variable '{}' is not set; export it before the run", variable));
  if (std::any_of(key->begin(), key->end(), [](unsigned char c) { return c < 0x21 || c > 0x7e; }))
    throw InputError(
        fmt::format("api_key_env: the variable '{}' holds spaces or control characters; a key has none", variable));
  return *key;
}

std::optional<std::string> content_of(const std::string& body) {
  if (detail::json_too_deep(body)) return std::nullopt;
  const Json json = Json::parse(body, nullptr, false);
  const Json::json_pointer place("/choices/0/message/content");
  if (!json.is_object() || !json.contains(place) || !json[place].is_string()) return std::nullopt;
  return json[place].get<std::string>();
}

}  // namespace

ChatClient::ChatClient(ChatOptions options, const VariableLookup& variables)
    : options_(std::move(options)), cache_(options_.cache), http_(options_.http) {
  headers_ = {"Content-Type: application/json", "Expect:"};
  const std::string key = read_api_key(options_.api_key_env, variables);
  if (!key.empty()) headers_.push_back("Authorization: Bearer " + key);
}

std::string ChatClient::request(const std::string& message) const {
  Json messages = Json::array();
  if (!options_.system.empty()) messages.push_back({{"role", "system"}, {"content", options_.system}});
  messages.push_back({{"role", "user"}, {"content", message}});
  const Json body = {{"model", options_.model},
                     {"messages", std::move(messages)},
                     {"temperature", options_.temperature},
                     {"max_tokens", options_.max_tokens}};
  return body.dump(-1, ' ', false, Json::error_handler_t::replace);
}

ChatReply ChatClient::ask(const std::string& request, const std::stop_token& stop,
                          const std::function<bool(const std::string&)>& usable, const std::string& expected) const {
  ChatReply reply;
  const std::string key = options_.url + "\n" + request;
  if (auto kept = cache_.find(key); kept && usable(*kept)) {
    reply.text = *std::move(kept);
    reply.from_cache = true;
    return reply;
  }
  const HttpReply http = http_.post(options_.url, headers_, request, stop);
  reply.attempts = http.attempts;
  reply.problem = http.problem;
  if (!http.problem.empty()) return reply;
  const std::optional<std::string> text = content_of(http.body);
  if (text && usable(*text)) {
    reply.text = *text;
    reply.cache_error = !keep(key, *text);
  } else {
    reply.problem = fmt::format("expected {}, found {}", expected, (text ? *text : http.body).substr(0, 200));
  }
  return reply;
}

/// A reply that cannot be kept is a reply all the same.
bool ChatClient::keep(const std::string& key, const std::string& text) const {
  try {
    cache_.store(key, text);
    return true;
  } catch (const SystemError&) {
    return false;
  }
}

void count(const ChatReply& reply, std::map<std::string, double>& counts) {
  counts["requests"] += static_cast<double>(reply.attempts);
  counts["retries"] += static_cast<double>(std::max<int64_t>(0, reply.attempts - 1));
  counts["cache_hits"] += reply.from_cache;
  counts["failures"] += !reply.problem.empty();
  counts["cache_errors"] += reply.cache_error;
}

std::string fill_template(std::string_view text, std::span<const std::pair<std::string_view, std::string>> values) {
  std::string out;
  for (size_t at = 0; at < text.size();) {
    const auto hit = std::find_if(values.begin(), values.end(),
                                  [&](const auto& value) { return text.substr(at).starts_with(value.first); });
    if (hit == values.end()) {
      out.push_back(text[at++]);
    } else {
      out += hit->second;
      at += hit->first.size();
    }
  }
  return out;
}

std::string question_of(const Example& example) {
  for (auto turn = example.prompt.rbegin(); turn != example.prompt.rend(); ++turn)
    if (turn->role == "user") return turn->content;
  return "";
}

std::string gold_text(const Example& example) {
  std::string text;
  for (const GoldAnswer& gold : example.gold) text += (text.empty() ? "" : "; ") + gold.answer;
  return text;
}

}  // namespace plural::external
