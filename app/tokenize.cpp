// SPDX-License-Identifier: Apache-2.0
// plural tokenize, plural detokenize.
#include <memory>

#include "app/commands.h"
#include "app/line_io.h"
#include "app/messages.h"
#include "plural/tokenizer.h"

namespace plural::app {
namespace {

struct TokenizeArgs {
  std::string model;
  IoPaths io;
  bool chat = false;
  bool generation_prompt = true;
  bool special = false;
  bool skip_special = false;
};

int tokenize(const TokenizeArgs& args) {
  const Tokenizer tokenizer = Tokenizer::load(args.model);
  return map_lines(args.io, [&](const InputLine& line) -> std::vector<Json> {
    const auto ids = args.chat
                         ? tokenizer.encode_chat(required_messages(line.object, "messages"), args.generation_prompt)
                         : tokenizer.encode(required_string(line.object, "text"), args.special);
    return {Json{{"ids", ids}}};
  });
}

int detokenize(const TokenizeArgs& args) {
  const Tokenizer tokenizer = Tokenizer::load(args.model);
  return map_lines(args.io, [&](const InputLine& line) -> std::vector<Json> {
    return {Json{{"text", tokenizer.decode(required_ids(line.object, "ids"), args.skip_special)}}};
  });
}

}  // namespace

void add_tokenize(CLI::App& app, int* exit_code) {
  auto args = std::make_shared<TokenizeArgs>();
  CLI::App* command = app.add_subcommand("tokenize", "Text to token ids: {\"text\"} -> {\"ids\"}");
  command->add_option("--model", args->model, "folder with tokenizer.json")->required();
  command->add_flag("--chat", args->chat,
                    "read {\"messages\": [{\"role\", \"content\"}...]} and apply the chat template");
  command->add_flag("!--no-generation-prompt", args->generation_prompt,
                    "with --chat: do not open the assistant's turn at the end");
  command->add_flag("--add-special-tokens", args->special,
                    "add the tokens that the tokenizer puts around a text (e.g. BOS)");
  add_io_options(*command, &args->io);
  command->callback([=] { *exit_code = tokenize(*args); });
}

void add_detokenize(CLI::App& app, int* exit_code) {
  auto args = std::make_shared<TokenizeArgs>();
  CLI::App* command = app.add_subcommand("detokenize", "Token ids to text: {\"ids\"} -> {\"text\"}");
  command->add_option("--model", args->model, "folder with tokenizer.json")->required();
  command->add_flag("--skip-special-tokens", args->skip_special, "leave special tokens out of the text");
  add_io_options(*command, &args->io);
  command->callback([=] { *exit_code = detokenize(*args); });
}

}  // namespace plural::app
