// SPDX-License-Identifier: Apache-2.0
// Prompts in JSON lines: a string (one user turn) or a list of messages.
#pragma once

#include <vector>

#include "app/line_io.h"
#include "plural/tokenizer.h"

namespace plural::app {

/// A list of {"role", "content"}; InputError names the field and entry.
std::vector<Message> required_messages(const Json& object, const char* key);
/// The same, or a string, which becomes one user message.
std::vector<Message> required_prompt(const Json& object, const char* key);

}  // namespace plural::app
