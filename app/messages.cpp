// SPDX-License-Identifier: Apache-2.0
#include "app/messages.h"

#include "lib/core/format.h"
#include "plural/error.h"

namespace plural::app {

std::vector<Message> required_messages(const Json& object, const char* key) {
  const Json& value = required(object, key);
  if (!value.is_array() || value.empty()) {
    throw InputError(fmt::format("field '{}': expected a list of messages, found {}", key,
                                 value.is_array() ? "an empty list" : value.type_name()));
  }
  std::vector<Message> messages;
  for (const Json& entry : value) {
    const auto bad = [&](const char* what) {
      throw InputError(fmt::format("field '{}': message {} {}", key, messages.size(), what));
    };
    if (!entry.is_object()) bad("is not an object with 'role' and 'content'");
    for (const char* part : {"role", "content"}) {
      if (!entry.contains(part) || !entry[part].is_string()) bad(fmt::format("needs '{}' as a string", part).c_str());
    }
    messages.push_back({entry["role"].get<std::string>(), entry["content"].get<std::string>()});
  }
  return messages;
}

std::vector<Message> required_prompt(const Json& object, const char* key) {
  const Json& value = required(object, key);
  if (value.is_string()) return {{"user", value.get<std::string>()}};
  return required_messages(object, key);
}

}  // namespace plural::app
