// SPDX-License-Identifier: Apache-2.0
// Which format a template's Jinja text stands for. A wrong guess would train on a malformed prompt
// without a word, so each rule names what must be there and what must not; a template that fits no
// rule is refused by the caller.
#include <array>
#include <initializer_list>
#include <set>

#include "lib/text/chat_template.h"

namespace plural {

const char* const kChatFormatNames =
    "chatml, smollm2, qwen2, qwen2.5, qwen3, llama3, llama3.1, mistral-v1, mistral-v2, mistral-v3, "
    "mistral-tekken";

namespace {

constexpr const char* kSmolLm2System = "You are a helpful AI assistant named SmolLM, trained by Hugging Face";
constexpr const char* kQwen2System = "You are a helpful assistant.";
constexpr const char* kQwen25System = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant.";

/// The template with `"` as `'` and real line breaks as `\n`, so that one spelling of a string is
/// looked for.
std::string canonical(std::string_view jinja) {
  std::string out;
  for (const char c : jinja) {
    if (c == '"') {
      out += '\'';
    } else if (c == '\n') {
      out += "\\n";
    } else {
      out += c;
    }
  }
  return out;
}

class Features {
 public:
  explicit Features(std::string_view jinja) : text_(canonical(jinja)) {}
  bool has(std::string_view part) const { return text_.find(part) != std::string::npos; }
  bool has_all(std::initializer_list<std::string_view> parts) const {
    for (const auto part : parts)
      if (!has(part)) return false;
    return true;
  }
  bool has_any(std::initializer_list<std::string_view> parts) const {
    for (const auto part : parts)
      if (has(part)) return true;
    return false;
  }

  /// Every fixed text between `open` and `close`; parts with quotes or braces are code, not text.
  std::set<std::string> texts_between(std::string_view open, std::string_view close) const {
    std::set<std::string> out;
    for (size_t at = text_.find(open); at != std::string::npos; at = text_.find(open, at)) {
      at += open.size();
      const size_t end = text_.find(close, at);
      if (end == std::string::npos) break;
      const std::string found = text_.substr(at, end - at);
      if (!found.empty() && found.find_first_of("'{}\\") == std::string::npos) out.insert(found);
    }
    return out;
  }

 private:
  std::string text_;
};

std::optional<ChatTemplate> recognise_chatml(const Features& features) {
  if (!features.has_all({"<|im_start|>", "<|im_end|>", "<|im_start|>assistant\\n", "if add_generation_prompt %}"}))
    return std::nullopt;
  // Things that change what a plain conversation looks like.
  if (features.has_any({"bos_token", "loop.last and add_generation_prompt", "<|im_start|>assistant\\n<think>", "|trim",
                        "| trim", "strftime", "raise_exception('Conv", "reasoning_mode", "vision_start"}))
    return std::nullopt;
  if (features.has("think>")) {
    // Qwen3: thinking is on by default, which leaves the prompt bare; switched off, it is an empty
    // thought.
    if (features.has_all({"last_query_index", "enable_thinking is false", "'<think>\\n\\n</think>\\n\\n'",
                          "split('</think>')", "if loop.index0 > ns.last_query_index %}"}) &&
        !features.has_any({"'<think>\\n'", "<|im_start|>system\\nYou"}))
      return ChatTemplate{ChatFormat::kQwen3, std::nullopt};
    return std::nullopt;
  }
  const auto defaults = features.texts_between("<|im_start|>system\\n", "<|im_end|>\\n");
  if (defaults.empty()) return ChatTemplate{};
  if (defaults.size() > 1 || !features.has("messages[0]")) return std::nullopt;
  return ChatTemplate{ChatFormat::kChatMl, *defaults.begin()};
}

std::optional<ChatTemplate> recognise_llama3(const Features& features) {
  if (!features.has_all({"<|start_header_id|>", "<|end_header_id|>\\n\\n", "<|eot_id|>", "bos_token", "trim",
                         "add_generation_prompt"}) ||
      features.has_any({"think", "<|im_start|>", "[INST]", "if system_message %}"}))
    return std::nullopt;
  if (features.has_all({"Cutting Knowledge Date: December 2023", "Today Date: ", "26 Jul 2024"}))
    return ChatTemplate{ChatFormat::kLlama31, std::nullopt};
  if (features.has_any({"Date", "tools", "raise_exception"})) return std::nullopt;
  return ChatTemplate{ChatFormat::kLlama3, std::nullopt};
}

std::optional<ChatTemplate> recognise_mistral(const Features& features) {
  if (!features.has_all({"[INST]", "[/INST]", "bos_token", "eos_token"}) ||
      features.has_any({"<<SYS>>", "[SYSTEM_PROMPT]", "<|im_start|>", "think"}))
    return std::nullopt;
  const bool takes_system = features.has("system_message");
  const bool system_last = features.has("loop.last and system_message is defined");
  const bool strips = features.has_any({"|trim", "| trim"});
  const bool answer_spaced = features.has("' ' + message['content']");
  if (features.has_all({"' [INST] '", "' [/INST]'"}) && takes_system && !system_last && answer_spaced && !strips)
    return ChatTemplate{ChatFormat::kMistralV2, std::nullopt};
  if (features.has_all({"'[INST] '", "' [/INST]'"}) && !takes_system && !answer_spaced && !strips)
    return ChatTemplate{ChatFormat::kMistralV1, std::nullopt};
  if (features.has_all({"'[INST] '", "'[/INST]'"}) && system_last && answer_spaced && strips)
    return ChatTemplate{ChatFormat::kMistralV3, std::nullopt};
  if (features.has_all({"'[INST]'", "'[/INST]'"}) && system_last && !answer_spaced && !strips)
    return ChatTemplate{ChatFormat::kMistralTekken, std::nullopt};
  return std::nullopt;
}

}  // namespace

std::optional<ChatTemplate> chat_template_by_name(std::string_view name) {
  static const std::pair<std::string_view, ChatTemplate> known[] = {
      {"chatml", {ChatFormat::kChatMl, std::nullopt}},
      {"smollm2", {ChatFormat::kChatMl, kSmolLm2System}},
      {"qwen2", {ChatFormat::kChatMl, kQwen2System}},
      {"qwen2.5", {ChatFormat::kChatMl, kQwen25System}},
      {"qwen3", {ChatFormat::kQwen3, std::nullopt}},
      {"llama3", {ChatFormat::kLlama3, std::nullopt}},
      {"llama3.1", {ChatFormat::kLlama31, std::nullopt}},
      {"mistral-v1", {ChatFormat::kMistralV1, std::nullopt}},
      {"mistral-v2", {ChatFormat::kMistralV2, std::nullopt}},
      {"mistral-v3", {ChatFormat::kMistralV3, std::nullopt}},
      {"mistral-tekken", {ChatFormat::kMistralTekken, std::nullopt}},
  };
  for (const auto& [known_name, chat] : known)
    if (known_name == name) return chat;
  return std::nullopt;
}

std::optional<ChatTemplate> recognise_chat_template(std::string_view jinja) {
  const Features features(jinja);
  if (auto chat = recognise_chatml(features)) return chat;
  if (auto chat = recognise_llama3(features)) return chat;
  return recognise_mistral(features);
}

}  // namespace plural
