// SPDX-License-Identifier: Apache-2.0
// Chat templates without a template engine: the families' templates are recognised and rendered by
// hand-written code.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "plural/tokenizer.h"

namespace plural {

/// How a family writes a conversation.
enum class ChatFormat {
  kChatMl,        ///< <|im_start|>role\ncontent<|im_end|>\n, with a default system turn where the
                  ///< template has one
  kQwen3,         ///< ChatML; thoughts of past assistant turns are dropped
  kLlama3,        ///< <|start_header_id|>role<|end_header_id|>\n\ncontent<|eot_id|>
  kLlama31,       ///< Llama 3 with a system turn that always gives the dates
  kMistralV1,     ///< [INST] content [/INST]answer</s>; no system text
  kMistralV2,     ///< the same with more spaces; the system text goes into the first user turn
  kMistralV3,     ///< [INST] content[/INST] answer</s>; the system text goes into the last user turn
  kMistralTekken  ///< the same without spaces
};

/// A recognised template.
struct ChatTemplate {
  ChatFormat format = ChatFormat::kChatMl;
  std::optional<std::string> default_system;  ///< ChatML: the system turn of conversations that
                                              ///< bring none
};

/// Names for `chat_format` in tokenizer_config.json, for messages.
extern const char* const kChatFormatNames;

/// The format called `name`; nothing if there is none.
std::optional<ChatTemplate> chat_template_by_name(std::string_view name);

/// The format that the Jinja text of a template stands for; nothing if it is not one of those
/// known.
std::optional<ChatTemplate> recognise_chat_template(std::string_view jinja);

/// The conversation as `apply_chat_template` of `transformers` renders it. Throws InputError where
/// the template would.
std::string render_chat(const ChatTemplate& chat, std::span<const Message> messages, bool add_generation_prompt,
                        std::string_view bos_token, std::string_view eos_token);

}  // namespace plural
