// SPDX-License-Identifier: Apache-2.0
// JSON Lines -> Example, with the file, line and field of everything that is wrong.
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "lib/core/file_io.h"
#include "lib/core/format.h"
#include "lib/core/json_depth.h"
#include "lib/core/utf8.h"
#include "plural/dataset.h"
#include "plural/error.h"
#include "plural/rng.h"

namespace plural {
namespace {

using nlohmann::json;

constexpr size_t kMaxProblems = 20;  // shown of one file

std::string brief(const json& value) {
  std::string text = value.dump(-1, ' ', false, json::error_handler_t::replace);
  if (text.size() > 60) {
    size_t end = 57;
    while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xc0) == 0x80) --end;
    text = text.substr(0, end) + "...";
  }
  return text;
}

struct Place {
  std::string_view line;  // "file:line"
  [[noreturn]] void fail(const std::string& what) const { throw InputError(fmt::format("{}: {}", line, what)); }
  [[noreturn]] void fail(const std::string& field, const std::string& expected, const json& got) const {
    fail(fmt::format("field '{}': expected {}, got {}", field, expected, brief(got)));
  }
};

std::string read_text(const json& value, const std::string& field, const Place& place) {
  if (!value.is_string()) place.fail(field, "text", value);
  return value.get<std::string>();
}

// A field of an object, or null when it is not there.
const json& member(const json& object, const char* key) {
  static const json kNull;
  const auto it = object.find(key);
  return it == object.end() ? kNull : *it;
}

std::vector<Message> read_prompt(const json& value, const Place& place) {
  if (value.is_null()) place.fail("field 'prompt' is missing: expected text or a list of messages");
  if (value.is_string()) return {{"user", value.get<std::string>()}};
  if (!value.is_array() || value.empty())
    place.fail("prompt", "text or a list of messages {\"role\", \"content\"}", value);
  std::vector<Message> messages;
  for (size_t i = 0; i < value.size(); ++i) {
    const std::string field = fmt::format("prompt[{}]", i);
    if (!value[i].is_object()) place.fail(field, "a message {\"role\", \"content\"}", value[i]);
    const json& role = member(value[i], "role");
    if (!role.is_string() || (role != "system" && role != "user" && role != "assistant"))
      place.fail(field + ".role", "system, user or assistant", role);
    messages.push_back({role.get<std::string>(), read_text(member(value[i], "content"), field + ".content", place)});
  }
  return messages;
}

std::vector<GoldAnswer> read_gold(const json& value, const Place& place) {
  std::vector<GoldAnswer> gold;
  if (value.is_null()) return gold;
  if (!value.is_array()) place.fail("gold", "a list of answers", value);
  for (size_t i = 0; i < value.size(); ++i) {
    const std::string field = fmt::format("gold[{}]", i);
    const json& item = value[i];
    GoldAnswer answer;
    if (item.is_string()) {
      answer.answer = item.get<std::string>();
    } else if (item.is_object()) {
      answer.answer = read_text(member(item, "answer"), field + ".answer", place);
      if (const json& aliases = member(item, "aliases"); !aliases.is_null()) {
        if (!aliases.is_array()) place.fail(field + ".aliases", "a list of texts", aliases);
        for (size_t k = 0; k < aliases.size(); ++k)
          answer.aliases.push_back(read_text(aliases[k], fmt::format("{}.aliases[{}]", field, k), place));
      }
      if (const json& weight = member(item, "weight"); !weight.is_null()) {
        if (!weight.is_number() || !std::isfinite(weight.get<double>()) || weight.get<double>() < 0)
          place.fail(field + ".weight", "a number >= 0", weight);
        answer.weight = weight.get<double>();
      }
    } else {
      place.fail(field, "text or {\"answer\", \"aliases\", \"weight\"}", item);
    }
    gold.push_back(std::move(answer));
  }
  return gold;
}

std::vector<Response> read_responses(const json& value, const Place& place) {
  std::vector<Response> responses;
  if (value.is_null()) return responses;
  if (!value.is_array()) place.fail("responses", "a list of {\"text\", \"reward\"}", value);
  for (size_t i = 0; i < value.size(); ++i) {
    const std::string field = fmt::format("responses[{}]", i);
    const json& item = value[i];
    if (!item.is_object()) place.fail(field, "{\"text\", \"reward\"}", item);
    Response response{read_text(member(item, "text"), field + ".text", place), 0.0};
    if (const json& reward = member(item, "reward"); !reward.is_null()) {
      if (!reward.is_number() || !std::isfinite(reward.get<double>()))
        place.fail(field + ".reward", "a number", reward);
      response.reward = reward.get<double>();
    }
    responses.push_back(std::move(response));
  }
  return responses;
}

json parse_line(std::string_view text, const Place& place) {
  if (const size_t bad = valid_utf8_prefix(text); bad < text.size())
    place.fail(fmt::format("byte {} (0x{:02x}) is not valid UTF-8; save the file as UTF-8", bad + 1,
                           static_cast<unsigned char>(text[bad])));
  if (detail::json_too_deep(text))
    place.fail(fmt::format("the JSON is nested more than {} deep", detail::kMaxJsonDepth));
  try {
    return json::parse(text);
  } catch (const json::parse_error& error) {
    // The library's own text, from "at line 1, column N:" on, without its error code.
    std::string_view what = error.what();
    if (const size_t from = what.find("column "); from != std::string_view::npos) what.remove_prefix(from);
    place.fail(fmt::format("not valid JSON at {}", what));
  } catch (const json::exception& error) {  // a number beyond double
    place.fail(fmt::format("not valid JSON: {}", error.what()));
  }
}

}  // namespace

Example parse_example(std::string_view text, std::string_view line) {
  const Place place{line};
  const json object = parse_line(text, place);
  if (!object.is_object()) place.fail(fmt::format("expected a JSON object {{\"prompt\": ...}}, got {}", brief(object)));
  Example example;
  if (const json& id = member(object, "id"); id.is_number_integer()) {
    example.id = id.dump();
  } else if (!id.is_null()) {
    example.id = read_text(id, "id", place);
  }
  example.prompt = read_prompt(member(object, "prompt"), place);
  example.gold = read_gold(member(object, "gold"), place);
  example.responses = read_responses(member(object, "responses"), place);
  if (const json& source = member(object, "source"); !source.is_null())
    example.source = read_text(source, "source", place);
  for (const auto& [key, value] : object.items())
    if (key != "id" && key != "prompt" && key != "gold" && key != "responses" && key != "source")
      example.extra[key] = value.dump();
  return example;
}

std::string to_json_line(const Example& example) {
  nlohmann::ordered_json object = nlohmann::ordered_json::object();
  if (!example.id.empty()) object["id"] = example.id;
  if (example.prompt.size() == 1 && example.prompt[0].role == "user") {
    object["prompt"] = example.prompt[0].content;
  } else {
    object["prompt"] = nlohmann::ordered_json::array();
    for (const Message& message : example.prompt)
      object["prompt"].push_back({{"role", message.role}, {"content", message.content}});
  }
  if (!example.gold.empty()) {
    for (const GoldAnswer& gold : example.gold) {
      nlohmann::ordered_json item = {{"answer", gold.answer}};
      if (!gold.aliases.empty()) item["aliases"] = gold.aliases;
      if (gold.weight != 1.0) item["weight"] = gold.weight;
      object["gold"].push_back(item.size() == 1 ? nlohmann::ordered_json(gold.answer) : std::move(item));
    }
  }
  for (const Response& response : example.responses)
    object["responses"].push_back({{"text", response.text}, {"reward", response.reward}});
  if (!example.source.empty()) object["source"] = example.source;
  for (const auto& [key, value] : example.extra) {
    object[key] = nlohmann::ordered_json::parse(value, nullptr, /*allow_exceptions=*/false);
    PLURAL_CHECK(!object[key].is_discarded(), "the extra field '" + key + "' is not JSON text");
  }
  return object.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

std::vector<Example> load_dataset(const std::filesystem::path& file) {
  const std::string text = detail::read_whole_file(file);
  std::vector<Example> examples;
  std::string problems;
  size_t count = 0;
  std::string_view rest = text;
  if (rest.substr(0, 3) == "\xef\xbb\xbf") rest.remove_prefix(3);  // a byte-order mark
  for (int64_t number = 1; !rest.empty(); ++number) {
    const size_t end = rest.find('\n');
    const std::string_view line = rest.substr(0, end);
    rest = end == std::string_view::npos ? std::string_view() : rest.substr(end + 1);
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    try {
      examples.push_back(parse_example(line, fmt::format("{}:{}", file.string(), number)));
    } catch (const InputError& error) {
      if (++count <= kMaxProblems) problems += fmt::format("{}{}", problems.empty() ? "" : "\n", error.what());
    }
  }
  if (count > kMaxProblems) problems += fmt::format("\n{}: {} more bad lines", file.string(), count - kMaxProblems);
  if (count > 0) throw InputError(problems);
  if (examples.empty())
    throw InputError(fmt::format(
        "{}: no examples; expected one JSON object a line, {{\"prompt\": ..., \"gold\": [...]}}", file.string()));
  return examples;
}

DataOrder::DataOrder(int64_t size, uint64_t seed) : size_(size), seed_(seed) {
  PLURAL_CHECK(size > 0, "a data order needs at least one example");
}

DataOrder::Draw DataOrder::at(int64_t n) {
  PLURAL_CHECK(n >= 0, "draws are counted from 0");
  const int64_t epoch = n / size_;
  if (epoch != epoch_) {
    order_.resize(static_cast<size_t>(size_));
    std::iota(order_.begin(), order_.end(), int64_t{0});
    RandomStream stream(seed_, RandomPurpose::kDataOrder, static_cast<uint64_t>(epoch));
    shuffle(order_, stream);
    epoch_ = epoch;
  }
  return {order_[static_cast<size_t>(n % size_)], epoch};
}

}  // namespace plural
