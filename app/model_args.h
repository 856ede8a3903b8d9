// SPDX-License-Identifier: Apache-2.0
// --model, --device and --dtype, shared by the commands that run a model.
#pragma once

#include <CLI/CLI.hpp>
#include <memory>
#include <string>

#include "plural/tokenizer.h"
#include "plural/transformer.h"

namespace plural::app {

struct ModelArgs {
  std::string model;
  std::string device = "cpu";
  std::string dtype = "float32";
};
void add_model_options(CLI::App& command, ModelArgs* args, bool required = true);

at::ScalarType parse_dtype(const std::string& name);

struct LoadedModel {
  Tokenizer tokenizer;
  std::unique_ptr<TransformerPolicy> policy;
};
/// The model alone (commands that only see ids).
std::unique_ptr<TransformerPolicy> load_policy(const ModelArgs& args);
/// Prints end_token_warning to standard error.
void warn_of_end_token(const Tokenizer& tokenizer, const TransformerPolicy& policy, const std::string& dir);
/// Loads both from the folder and checks that they fit together.
LoadedModel load_model(const ModelArgs& args);

}  // namespace plural::app
