// SPDX-License-Identifier: Apache-2.0
#include "lib/models/bert.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "lib/core/format.h"
#include "lib/models/config_fields.h"
#include "plural/error.h"

namespace plural {

BertConfig load_bert_config(const std::filesystem::path& file) {
  std::ifstream stream(file, std::ios::binary);
  if (!stream)
    throw InputError(fmt::format("{}: cannot be read; a BERT encoder's folder has a config.json", file.string()));
  const auto root = nlohmann::json::parse(stream, nullptr, /*allow_exceptions=*/false);
  if (!root.is_object()) throw InputError(fmt::format("{}: is not a JSON object", file.string()));
  const ConfigFields fields(root, file.string());
  const auto require = [&fields](const char* field, const char* fallback, const std::string& supported) {
    const std::string found = fields.text(field, fallback);
    if (found != supported) fields.fail(field, fmt::format("'{}' is not supported (supported: {})", found, supported));
  };
  require("model_type", "", "bert");
  require("hidden_act", "gelu", "gelu");
  require("position_embedding_type", "absolute", "absolute");
  BertConfig config;
  config.vocab_size = fields.positive("vocab_size");
  config.width = fields.positive("hidden_size");
  config.mlp_width = fields.positive("intermediate_size");
  config.layers = fields.positive("num_hidden_layers");
  config.heads = fields.positive("num_attention_heads");
  config.context_length = fields.positive("max_position_embeddings");
  config.token_types = fields.positive("type_vocab_size", 2);
  config.norm_eps = fields.number("layer_norm_eps", 1e-12, 0);
  if (config.width % config.heads != 0)
    fields.fail("num_attention_heads", fmt::format("{} does not divide hidden_size {}", config.heads, config.width));
  return config;
}

BertEncoder::BertEncoder(const BertConfig& config) : config_(config) {
  weights_.layers.resize(static_cast<size_t>(config.layers));
  for (const ParameterSlot& slot : slots()) *slot.tensor = at::empty(slot.shape, at::kFloat);
}

std::vector<ParameterSlot> BertEncoder::slots() {
  const int64_t width = config_.width, mlp = config_.mlp_width;
  std::vector<ParameterSlot> slots;
  const auto matrix = [&](const std::string& name, int64_t out, int64_t in, Tensor& weight) {
    slots.push_back({name, {out, in}, ParameterKind::kMatrix, &weight});
  };
  const auto linear = [&](const std::string& name, int64_t out, int64_t in, Linear& to) {
    matrix(name + ".weight", out, in, to.weight);
    slots.push_back({name + ".bias", {out}, ParameterKind::kBias, &to.bias});
  };
  const auto norm = [&](const std::string& name, Linear& to) {
    slots.push_back({name + ".weight", {width}, ParameterKind::kNorm, &to.weight});
    slots.push_back({name + ".bias", {width}, ParameterKind::kBias, &to.bias});
  };
  matrix("embeddings.word_embeddings.weight", config_.vocab_size, width, weights_.words);
  matrix("embeddings.position_embeddings.weight", config_.context_length, width, weights_.positions);
  matrix("embeddings.token_type_embeddings.weight", config_.token_types, width, weights_.types);
  norm("embeddings.LayerNorm", weights_.norm);
  for (size_t i = 0; i < weights_.layers.size(); ++i) {
    const std::string prefix = fmt::format("encoder.layer.{}.", i);
    Layer& layer = weights_.layers[i];
    linear(prefix + "attention.self.query", width, width, layer.query);
    linear(prefix + "attention.self.key", width, width, layer.key);
    linear(prefix + "attention.self.value", width, width, layer.value);
    linear(prefix + "attention.output.dense", width, width, layer.attended);
    norm(prefix + "attention.output.LayerNorm", layer.attended_norm);
    linear(prefix + "intermediate.dense", mlp, width, layer.up);
    linear(prefix + "output.dense", width, mlp, layer.down);
    norm(prefix + "output.LayerNorm", layer.norm);
  }
  return slots;
}

BertEncoder BertEncoder::load(const std::filesystem::path& dir) {
  if (!std::filesystem::is_directory(dir))
    throw InputError(
        fmt::format("{}: is not a folder; expected the Hugging Face folder of a BERT encoder", dir.string()));
  BertEncoder encoder(load_bert_config(dir / "config.json"));
  std::map<std::string, Tensor> values;
  for (const auto& [name, tensor] : read_checkpoint(dir))
    // Models with a head call the encoder "bert".
    values.emplace(name.starts_with("bert.") ? name.substr(5) : name, tensor);
  throw_weight_problems(dir.string(), take_weights(encoder.slots(), values));
  return encoder;
}

Tensor BertEncoder::hidden(const Tensor& ids) const {
  const at::NoGradGuard no_grad;
  check_shapes({{"ids", ids, "n T"}});
  const int64_t length = ids.size(1);
  PLURAL_CHECK(length >= 1 && length <= config_.context_length, "texts have 1 to context_length tokens");
  const auto linear = [](const Tensor& x, const Linear& to) { return at::linear(x, to.weight, to.bias); };
  const auto norm = [this](const Tensor& x, const Linear& to) {
    return at::layer_norm(x, {config_.width}, to.weight, to.bias, config_.norm_eps);
  };
  const auto heads = [this](const Tensor& x) { return x.unflatten(2, {config_.heads, -1}).transpose(1, 2); };
  Tensor x = norm(at::embedding(weights_.words, ids) + weights_.positions.narrow(0, 0, length) + weights_.types[0],
                  weights_.norm);
  for (const Layer& layer : weights_.layers) {
    const Tensor attended = at::scaled_dot_product_attention(heads(linear(x, layer.query)), heads(linear(x, layer.key)),
                                                             heads(linear(x, layer.value)));  // [n, H, T, D]
    x = norm(x + linear(attended.transpose(1, 2).flatten(2), layer.attended), layer.attended_norm);
    x = norm(x + linear(at::gelu(linear(x, layer.up)), layer.down), layer.norm);
  }
  return x;
}

BertEncoder BertEncoder::to(at::Device device) const {
  BertEncoder moved = *this;
  for (const ParameterSlot& slot : moved.slots()) *slot.tensor = slot.tensor->to(device);
  return moved;
}

}  // namespace plural
