// SPDX-License-Identifier: Apache-2.0
// plural init: a randomly initialised checkpoint.
#include <array>
#include <filesystem>
#include <memory>

#include "app/commands.h"
#include "app/model_args.h"
#include "app/shared_options.h"
#include "lib/core/format.h"
#include "plural/error.h"
#include "plural/run.h"

namespace plural::app {
namespace {

namespace fs = std::filesystem;

struct InitArgs {
  std::string config, out, tokenizer;
  std::string dtype = "float32";
  uint64_t seed = 1;
};

/// Copies whatever tokenizer files `from` holds.
void copy_tokenizer(const fs::path& from, const fs::path& to) {
  constexpr std::array kFiles = {"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
                                 "chat_template.jinja", "generation_config.json"};
  for (const char* name : kFiles) {
    if (!fs::exists(from / name)) continue;
    std::error_code error;
    fs::copy_file(from / name, to / name, fs::copy_options::overwrite_existing, error);
    if (error) throw WriteError(fmt::format("{}: cannot be written: {}", (to / name).string(), error.message()));
  }
}

int init(const InitArgs& args) {
  for (const char* name : {"model.safetensors", "model.safetensors.index.json"})
    if (fs::exists(fs::path(args.out) / name))
      throw InputError(fmt::format("--out {}: holds a model already; choose another folder", args.out));
  const TransformerConfig config = load_transformer_config(args.config);
  const auto policy = TransformerPolicy::init(config, args.seed, at::kCPU, parse_dtype(args.dtype));
  if (!args.tokenizer.empty()) {
    const Tokenizer tokenizer = Tokenizer::load(args.tokenizer);
    check_tokenizer_fits(tokenizer, *policy, args.tokenizer);
    warn_of_end_token(tokenizer, *policy, args.tokenizer);
  }
  policy->save(args.out);
  if (!args.tokenizer.empty()) copy_tokenizer(args.tokenizer, args.out);
  int64_t parameters = 0;
  for (const auto& [name, tensor] : policy->named_parameters()) parameters += tensor.numel();
  fmt::print(stderr, "plural: wrote {} ({} parameters, seed {})\n", args.out, parameters, args.seed);
  return 0;
}

}  // namespace

void add_init(CLI::App& app, int* exit_code) {
  auto args = std::make_shared<InitArgs>();
  CLI::App* command = app.add_subcommand("init", "Writes a randomly initialised checkpoint");
  command->add_option("--config", args->config, "config.json of a supported family")->required();
  command->add_option("--out", args->out, "folder to write")->required();
  add_seed_option(*command, &args->seed);
  command->add_option("--dtype", args->dtype, "precision of the weights")
      ->check(CLI::IsMember({"float32", "bfloat16"}))
      ->capture_default_str();
  command->add_option("--tokenizer", args->tokenizer, "copy the tokenizer files of this folder");
  command->callback([=] { *exit_code = init(*args); });
}

}  // namespace plural::app
