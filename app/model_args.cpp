// SPDX-License-Identifier: Apache-2.0
#include "app/model_args.h"

#include "lib/core/format.h"
#include "plural/device.h"
#include "plural/run.h"

namespace plural::app {

void add_model_options(CLI::App& command, ModelArgs* args, bool required) {
  command.add_option("--model", args->model, "Hugging Face folder (config.json, model.safetensors, tokenizer.json)")
      ->required(required);
  command.add_option("--device", args->device, "cpu, cuda or cuda:N")->capture_default_str();
  command.add_option("--dtype", args->dtype, "precision of the weights")
      ->check(CLI::IsMember({"float32", "bfloat16"}))
      ->capture_default_str();
}

at::ScalarType parse_dtype(const std::string& name) { return name == "bfloat16" ? at::kBFloat16 : at::kFloat; }

std::unique_ptr<TransformerPolicy> load_policy(const ModelArgs& args) {
  return TransformerPolicy::load(args.model, parse_device(args.device), parse_dtype(args.dtype));
}

void warn_of_end_token(const Tokenizer& tokenizer, const TransformerPolicy& policy, const std::string& dir) {
  if (const std::string odd = end_token_warning(tokenizer, policy, dir); !odd.empty())
    fmt::print(stderr, "plural: warning: {}\n", odd);
}

LoadedModel load_model(const ModelArgs& args) {
  Tokenizer tokenizer = Tokenizer::load(args.model);
  auto policy = load_policy(args);
  check_tokenizer_fits(tokenizer, *policy, args.model);
  warn_of_end_token(tokenizer, *policy, args.model);
  return {std::move(tokenizer), std::move(policy)};
}

}  // namespace plural::app
