// SPDX-License-Identifier: Apache-2.0
// TransformerPolicy's life: from a folder or a seed, copies, and back to a folder.
#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "lib/core/format.h"
#include "lib/models/transformer_impl.h"
#include "plural/checkpoint.h"
#include "plural/error.h"

namespace plural {
namespace {

/// The name config.json uses for a dtype.
const char* dtype_name(at::ScalarType dtype) {
  return dtype == at::kBFloat16 ? "bfloat16" : dtype == at::kDouble ? "float64" : "float32";
}

/// config.json as it was read, but with the dtype that the weights are now in (under either of its two names).
std::string config_with_dtype(const std::string& source, at::ScalarType dtype) {
  nlohmann::ordered_json root = nlohmann::ordered_json::parse(source);
  const bool old_name = root.contains("torch_dtype");
  root[old_name ? "torch_dtype" : "dtype"] = dtype_name(dtype);
  if (old_name && root.contains("dtype")) root["dtype"] = dtype_name(dtype);
  // `transformers` picks the class by this field; a config written by hand may lack it.
  if (!root.contains("architectures")) {
    std::string name = root.at("model_type").get<std::string>() + "ForCausalLM";
    name[0] = static_cast<char>(std::toupper(name[0]));
    root["architectures"] = nlohmann::ordered_json::array({name});
  }
  return root.dump(2) + "\n";
}

constexpr const char* kCompanionFiles[] = {
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "generation_config.json", "vocab.json",
    "merges.txt",     "added_tokens.json",     "chat_template.jinja",     "tokenizer.model",
};

}  // namespace

TransformerPolicy::Impl::Impl(const TransformerConfig& config, at::Device device, at::ScalarType dtype)
    : config(config), frequencies(config, device), dtype(dtype) {
  PLURAL_CHECK(dtype == at::kFloat || dtype == at::kBFloat16 || dtype == at::kDouble,
               "a policy is float32, bfloat16 or float64");
  PLURAL_CHECK(config.layers > 0 && config.vocab_size > 0 && config.heads > 0 && config.kv_heads > 0,
               "an empty TransformerConfig; use load_transformer_config");
  weights = allocate_weights(config, device, dtype);
}

TransformerPolicy::TransformerPolicy(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

TransformerPolicy::~TransformerPolicy() = default;

std::unique_ptr<TransformerPolicy> TransformerPolicy::load(const std::filesystem::path& dir, at::Device device,
                                                           at::ScalarType dtype) {
  if (!std::filesystem::is_directory(dir))
    throw InputError(fmt::format("{}: is not a folder; expected a Hugging Face model folder", dir.string()));
  auto impl = std::make_unique<Impl>(load_transformer_config(dir / "config.json"), device, dtype);
  assign_weights(impl->config, impl->weights, read_checkpoint(dir), dir.string());
  impl->source_dir = dir;
  return std::unique_ptr<TransformerPolicy>(new TransformerPolicy(std::move(impl)));
}

std::unique_ptr<TransformerPolicy> TransformerPolicy::init(const TransformerConfig& config, uint64_t seed,
                                                           at::Device device, at::ScalarType dtype) {
  auto impl = std::make_unique<Impl>(config, device, dtype);
  init_weights(config, impl->weights, seed);
  return std::unique_ptr<TransformerPolicy>(new TransformerPolicy(std::move(impl)));
}

NamedTensors TransformerPolicy::named_parameters() {
  NamedTensors result;
  for (const ParameterSlot& slot : parameter_slots(impl_->config, impl_->weights))
    result.emplace_back(slot.name, *slot.tensor);
  return result;
}

std::unique_ptr<Policy> TransformerPolicy::frozen_copy() const {
  const at::NoGradGuard no_grad;
  auto copy = std::make_unique<Impl>(impl_->config, device(), impl_->dtype);
  copy->source_dir = impl_->source_dir;
  const auto from = parameter_slots(impl_->config, impl_->weights), to = parameter_slots(copy->config, copy->weights);
  for (size_t i = 0; i < from.size(); ++i) {
    to[i].tensor->requires_grad_(false);
    to[i].tensor->copy_(*from[i].tensor);
  }
  return std::unique_ptr<Policy>(new TransformerPolicy(std::move(copy)));
}

void TransformerPolicy::load_values(const NamedTensors& values) {
  assign_weights(impl_->config, impl_->weights, values, "values");
}

void TransformerPolicy::save(const std::filesystem::path& dir) const {
  std::error_code error;
  std::filesystem::create_directories(dir, error);
  if (error) throw WriteError(fmt::format("{}: cannot create the folder: {}", dir.string(), error.message()));
  NamedTensors tensors;
  for (const ParameterSlot& slot : parameter_slots(impl_->config, impl_->weights))
    tensors.emplace_back(slot.name, slot.tensor->detach());
  // "format" is what transformers asks for in the header.
  write_safetensors(dir / "model.safetensors", tensors, {{"format", "pt"}});
  write_file_atomic(dir / "config.json", config_with_dtype(impl_->config.source_json, impl_->dtype));
  for (const char* name : kCompanionFiles) {
    const std::filesystem::path from = impl_->source_dir / name;
    if (impl_->source_dir.empty() || !std::filesystem::exists(from)) continue;
    if (std::filesystem::exists(dir / name) && std::filesystem::equivalent(from, dir / name)) continue;
    std::ifstream stream(from, std::ios::binary);
    if (!stream) throw SystemError(fmt::format("{}: cannot be read", from.string()));
    write_file_atomic(dir / name, std::string(std::istreambuf_iterator<char>(stream), {}));
  }
}

at::Device TransformerPolicy::device() const { return impl_->weights.embedding.device(); }
int64_t TransformerPolicy::context_length() const { return impl_->config.context_length; }
int64_t TransformerPolicy::vocab_size() const { return impl_->config.vocab_size; }
const TransformerConfig& TransformerPolicy::config() const { return impl_->config; }
at::ScalarType TransformerPolicy::dtype() const { return impl_->dtype; }

}  // namespace plural
