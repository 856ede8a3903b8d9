// SPDX-License-Identifier: Apache-2.0
#include "lib/text/chat_template.h"

#include <algorithm>
#include <array>
#include <utility>

#include "lib/core/format.h"
#include "lib/text/unicode_classes.h"
#include "plural/error.h"

namespace plural {
namespace {

/// Python's str.strip(): white space and the four ASCII separators.
std::string_view strip(std::string_view text) {
  const auto is_space = [](const char* at) {
    const char32_t c = decode_utf8(at).value;
    return (char_classes()[c] & kSpace) != 0 || (c >= 0x1C && c <= 0x1F);
  };
  while (!text.empty() && is_space(text.data())) text.remove_prefix(decode_utf8(text.data()).size);
  while (!text.empty()) {
    size_t last = text.size() - 1;
    while (last > 0 && (static_cast<unsigned char>(text[last]) & 0xC0) == 0x80) --last;
    if (!is_space(text.data() + last)) break;
    text = text.substr(0, last);
  }
  return text;
}

std::string_view strip_newlines_left(std::string_view text) {
  while (text.starts_with('\n')) text.remove_prefix(1);
  return text;
}
std::string_view strip_newlines_right(std::string_view text) {
  while (text.ends_with('\n')) text.remove_suffix(1);
  return text;
}

/// What stands after the last `mark`; all of `text` without one.
std::string_view after_last(std::string_view text, std::string_view mark) {
  const size_t at = text.rfind(mark);
  return at == std::string_view::npos ? text : text.substr(at + mark.size());
}

void check_messages(std::span<const Message> messages) {
  if (messages.empty()) throw InputError("a conversation needs at least one message, found none");
  for (size_t i = 0; i < messages.size(); ++i) {
    const std::string& role = messages[i].role;
    if (role != "system" && role != "user" && role != "assistant")
      throw InputError(
          fmt::format("message {} has the role \"{}\"; expected \"system\", \"user\" or \"assistant\"", i, role));
  }
}

std::string render_chatml(const ChatTemplate& chat, std::span<const Message> messages, bool add_generation_prompt) {
  std::string out;
  const auto turn = [&out](std::string_view role, std::string_view content) {
    out += fmt::format("<|im_start|>{}\n{}<|im_end|>\n", role, content);
  };
  if (chat.default_system && messages[0].role != "system") turn("system", *chat.default_system);
  for (const Message& message : messages) turn(message.role, message.content);
  if (add_generation_prompt) out += "<|im_start|>assistant\n";
  return out;
}

/// Index of the last question that is a user's own; the last message's if there is none.
size_t last_query(std::span<const Message> messages) {
  for (size_t i = messages.size(); i-- > 0;) {
    const std::string& content = messages[i].content;
    const bool is_tool_result = content.starts_with("<tool_response>") && content.ends_with("</tool_response>");
    if (messages[i].role == "user" && !is_tool_result) return i;
  }
  return messages.size() - 1;
}

std::string render_qwen3(std::span<const Message> messages, bool add_generation_prompt) {
  std::string out;
  const size_t query = last_query(messages);
  for (size_t i = 0; i < messages.size(); ++i) {
    const Message& message = messages[i];
    if (message.role != "assistant") {
      out += fmt::format("<|im_start|>{}\n{}<|im_end|>\n", message.role, message.content);
      continue;
    }
    std::string_view content = message.content;
    std::string_view thoughts;
    if (const size_t end = content.find("</think>"); end != std::string_view::npos) {
      thoughts = strip_newlines_left(after_last(strip_newlines_right(content.substr(0, end)), "<think>"));
      content = strip_newlines_left(after_last(content, "</think>"));
    }
    out += "<|im_start|>assistant\n";
    if (i > query && (i + 1 == messages.size() || !thoughts.empty()))
      out += fmt::format("<think>\n{}\n</think>\n\n{}", strip_newlines_left(strip_newlines_right(thoughts)),
                         strip_newlines_left(content));
    else
      out += content;
    out += "<|im_end|>\n";
  }
  if (add_generation_prompt) out += "<|im_start|>assistant\n";
  return out;
}

std::string render_llama3(const ChatTemplate& chat, std::span<const Message> messages, bool add_generation_prompt,
                          std::string_view bos_token) {
  std::string out(bos_token);
  const auto turn = [&out](std::string_view role, std::string_view content) {
    out += fmt::format("<|start_header_id|>{}<|end_header_id|>\n\n{}<|eot_id|>", role, content);
  };
  if (chat.format == ChatFormat::kLlama31) {
    std::string_view system;
    if (messages[0].role == "system") {
      system = strip(messages[0].content);
      messages = messages.subspan(1);
    }
    // The template's own default date. Its later versions ask the clock, which would make prompts
    // change overnight.
    turn("system", fmt::format("Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n{}", system));
  }
  for (const Message& message : messages) turn(message.role, strip(message.content));
  if (add_generation_prompt) out += "<|start_header_id|>assistant<|end_header_id|>\n\n";
  return out;
}

/// What differs between the Mistral templates.
struct MistralStyle {
  std::string_view open, close;  ///< around a question
  std::string_view answer;       ///< before an answer
  bool strip_answer;
  enum { kNone, kFirst, kLast } system;  ///< the question that the system text is put before
};

MistralStyle mistral_style(ChatFormat format) {
  switch (format) {
    case ChatFormat::kMistralV1:
      return {"[INST] ", " [/INST]", "", false, MistralStyle::kNone};
    case ChatFormat::kMistralV2:
      return {" [INST] ", " [/INST]", " ", false, MistralStyle::kFirst};
    case ChatFormat::kMistralV3:
      return {"[INST] ", "[/INST]", " ", true, MistralStyle::kLast};
    default:
      return {"[INST]", "[/INST]", "", false, MistralStyle::kLast};
  }
}

std::string render_mistral(ChatFormat format, std::span<const Message> messages, std::string_view bos_token,
                           std::string_view eos_token) {
  const MistralStyle style = mistral_style(format);
  const bool has_system = messages[0].role == "system";
  std::string_view system;
  if (has_system) {
    if (style.system == MistralStyle::kNone)
      throw InputError(
          "this model's chat template takes no system message; put the text before the first user "
          "message");
    system = messages[0].content;
    messages = messages.subspan(1);
  }
  std::string out(bos_token);
  for (size_t i = 0; i < messages.size(); ++i) {
    const Message& message = messages[i];
    if (message.role != (i % 2 == 0 ? "user" : "assistant"))
      throw InputError(
          fmt::format("this model's chat template wants user and assistant in turn, starting with user{}; "
                      "message {} has the role \"{}\"",
                      style.system == MistralStyle::kNone ? "" : " after an optional system message", i + has_system,
                      message.role));
    if (message.role == "assistant") {
      out += style.answer;
      out += style.strip_answer ? strip(message.content) : std::string_view(message.content);
      out += eos_token;
      continue;
    }
    out += style.open;
    if (has_system && i == (style.system == MistralStyle::kFirst ? 0 : messages.size() - 1)) {
      out += system;
      out += "\n\n";
    }
    out += message.content;
    out += style.close;
  }
  return out;
}

}  // namespace

std::string render_chat(const ChatTemplate& chat, std::span<const Message> messages, bool add_generation_prompt,
                        std::string_view bos_token, std::string_view eos_token) {
  check_messages(messages);
  switch (chat.format) {
    case ChatFormat::kChatMl:
      return render_chatml(chat, messages, add_generation_prompt);
    case ChatFormat::kQwen3:
      return render_qwen3(messages, add_generation_prompt);
    case ChatFormat::kLlama3:
    case ChatFormat::kLlama31:
      return render_llama3(chat, messages, add_generation_prompt, bos_token);
    case ChatFormat::kMistralV1:
    case ChatFormat::kMistralV2:
    case ChatFormat::kMistralV3:
    case ChatFormat::kMistralTekken:
      break;
  }
  return render_mistral(chat.format, messages, bos_token, eos_token);  // has no generation prompt
}

}  // namespace plural
