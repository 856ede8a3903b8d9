// SPDX-License-Identifier: Apache-2.0
#include "lib/models/weights.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "lib/core/format.h"
#include "plural/checkpoint.h"
#include "plural/error.h"
#include "plural/rng.h"

namespace plural {

std::vector<ParameterSlot> parameter_slots(const TransformerConfig& config, TransformerWeights& weights) {
  const int64_t width = config.width, mlp = config.mlp_width, head_size = config.head_size;
  const int64_t query = config.heads * head_size, key = config.kv_heads * head_size;
  std::vector<ParameterSlot> slots;
  const auto matrix = [&](const std::string& name, int64_t out, int64_t in, Tensor& weight) {
    slots.push_back({name, {out, in}, ParameterKind::kMatrix, &weight});
  };
  const auto norm = [&](const std::string& name, int64_t size, Tensor& weight) {
    slots.push_back({name + ".weight", {size}, ParameterKind::kNorm, &weight});
  };
  const auto linear = [&](const std::string& name, int64_t out, int64_t in, Tensor& weight, Tensor& bias,
                          bool has_bias) {
    matrix(name + ".weight", out, in, weight);
    if (has_bias) slots.push_back({name + ".bias", {out}, ParameterKind::kBias, &bias});
  };
  matrix("model.embed_tokens.weight", config.vocab_size, width, weights.embedding);
  for (int64_t i = 0; i < config.layers; ++i) {
    const std::string layer = fmt::format("model.layers.{}.", i);
    LayerWeights& to = weights.layers.at(i);
    norm(layer + "input_layernorm", width, to.input_norm);
    linear(layer + "self_attn.q_proj", query, width, to.q, to.q_bias, config.attention_bias);
    linear(layer + "self_attn.k_proj", key, width, to.k, to.k_bias, config.attention_bias);
    linear(layer + "self_attn.v_proj", key, width, to.v, to.v_bias, config.attention_bias);
    linear(layer + "self_attn.o_proj", width, query, to.o, to.o_bias, config.attention_output_bias);
    if (config.qk_norm) {
      norm(layer + "self_attn.q_norm", head_size, to.q_norm);
      norm(layer + "self_attn.k_norm", head_size, to.k_norm);
    }
    norm(layer + "post_attention_layernorm", width, to.post_norm);
    linear(layer + "mlp.gate_proj", mlp, width, to.gate, to.gate_bias, config.mlp_bias);
    linear(layer + "mlp.up_proj", mlp, width, to.up, to.up_bias, config.mlp_bias);
    linear(layer + "mlp.down_proj", width, mlp, to.down, to.down_bias, config.mlp_bias);
  }
  norm("model.norm", width, weights.final_norm);
  if (!config.tied_embeddings) matrix("lm_head.weight", config.vocab_size, width, weights.head);
  return slots;
}

TransformerWeights allocate_weights(const TransformerConfig& config, at::Device device, at::ScalarType dtype) {
  const at::NoGradGuard no_grad;
  const auto options = at::TensorOptions().device(device).dtype(dtype);
  TransformerWeights weights;
  weights.layers.resize(config.layers);
  const int64_t query = config.heads * config.head_size, key = config.kv_heads * config.head_size;
  // Leaves that share a storage: detach() makes each view a tensor of its own with its own gradient.
  const auto split = [](const Tensor& whole, std::vector<Tensor*> parts, const std::vector<int64_t>& sizes) {
    const auto views = whole.split_with_sizes(sizes);
    for (size_t i = 0; i < parts.size(); ++i) *parts[i] = views[i].detach();
  };
  for (LayerWeights& layer : weights.layers) {
    layer.qkv = at::empty({query + 2 * key, config.width}, options);
    split(layer.qkv, {&layer.q, &layer.k, &layer.v}, {query, key, key});
    layer.gate_up = at::empty({2 * config.mlp_width, config.width}, options);
    split(layer.gate_up, {&layer.gate, &layer.up}, {config.mlp_width, config.mlp_width});
    if (config.attention_bias) {
      layer.qkv_bias = at::empty({query + 2 * key}, options);
      split(layer.qkv_bias, {&layer.q_bias, &layer.k_bias, &layer.v_bias}, {query, key, key});
    }
    if (config.mlp_bias) {
      layer.gate_up_bias = at::empty({2 * config.mlp_width}, options);
      split(layer.gate_up_bias, {&layer.gate_bias, &layer.up_bias}, {config.mlp_width, config.mlp_width});
    }
  }
  for (const ParameterSlot& slot : parameter_slots(config, weights)) {
    if (!slot.tensor->defined()) *slot.tensor = at::empty(slot.shape, options);
    slot.tensor->requires_grad_(true);
  }
  if (config.tied_embeddings) weights.head = weights.embedding;
  return weights;
}

NamedTensors read_checkpoint(const std::filesystem::path& dir) {
  const std::filesystem::path single = dir / "model.safetensors", index = dir / "model.safetensors.index.json";
  if (std::filesystem::exists(single)) return read_safetensors(single);
  if (!std::filesystem::exists(index))
    throw InputError(
        fmt::format("{}: neither model.safetensors nor model.safetensors.index.json is there; expected a "
                    "Hugging Face model folder with safetensors weights",
                    dir.string()));
  nlohmann::json map;
  try {
    std::ifstream stream(index);
    map = nlohmann::json::parse(stream).at("weight_map");
    if (!map.is_object()) throw std::runtime_error("weight_map is not an object");
  } catch (const std::exception& error) {
    throw InputError(
        fmt::format("{}: expected an object 'weight_map' of tensor name to file: {}", index.string(), error.what()));
  }
  std::map<std::string, std::set<std::string>> files;  // file -> names that the index promises
  for (const auto& [name, file] : map.items()) {
    if (!file.is_string() || std::filesystem::path(file.get<std::string>()).has_parent_path())
      throw InputError(fmt::format("{}: weight_map['{}']: expected a file name in the same folder, found {}",
                                   index.string(), name, file.dump()));
    files[file.get<std::string>()].insert(name);
  }
  NamedTensors result;
  std::set<std::string> seen;
  for (auto& [file, names] : files) {
    for (auto& [name, tensor] : read_safetensors(dir / file)) {
      if (!seen.insert(name).second)
        throw InputError(fmt::format("{}: tensor '{}' stands in another shard too", (dir / file).string(), name));
      names.erase(name);
      result.emplace_back(name, tensor);
    }
    if (!names.empty())
      throw InputError(fmt::format("{}: tensor '{}' is missing; {} says it is here", (dir / file).string(),
                                   *names.begin(), index.filename().string()));
  }
  return result;
}

std::vector<std::string> take_weights(const std::vector<ParameterSlot>& slots, std::map<std::string, Tensor>& values) {
  const at::NoGradGuard no_grad;
  std::vector<std::string> problems;
  for (const ParameterSlot& slot : slots) {
    const auto it = values.find(slot.name);
    if (it == values.end()) {
      problems.push_back(
          fmt::format("tensor '{}' is missing (expected shape [{}])", slot.name, fmt::join(slot.shape, ", ")));
      continue;
    }
    if (it->second.sizes() != at::IntArrayRef(slot.shape))
      problems.push_back(fmt::format("tensor '{}' has shape [{}], expected [{}]", slot.name,
                                     fmt::join(it->second.sizes().vec(), ", "), fmt::join(slot.shape, ", ")));
    else if (!it->second.is_floating_point())
      problems.push_back(fmt::format("tensor '{}' has type {}, expected F64, F32, F16 or BF16", slot.name,
                                     at::toString(it->second.scalar_type())));
    else
      slot.tensor->detach().copy_(it->second);
    values.erase(it);
  }
  return problems;
}

void throw_weight_problems(const std::string& where, std::vector<std::string> problems) {
  if (problems.empty()) return;
  constexpr size_t kShown = 20;
  const size_t total = problems.size();
  if (total > kShown) {
    problems.resize(kShown);
    problems.push_back(fmt::format("... and {} more", total - kShown));
  }
  throw InputError(fmt::format("{}: the weights do not fit config.json:\n  {}", where, fmt::join(problems, "\n  ")));
}

void assign_weights(const TransformerConfig& config, TransformerWeights& weights, const NamedTensors& values,
                    const std::string& where) {
  std::map<std::string, Tensor> by_name(values.begin(), values.end());
  std::vector<std::string> problems = take_weights(parameter_slots(config, weights), by_name);
  // Buffers that older exports carry, and a head that is written although tied, are ignored as in transformers.
  for (const auto& [name, tensor] : by_name) {
    if (name.ends_with(".rotary_emb.inv_freq") || (name == "lm_head.weight" && config.tied_embeddings)) continue;
    problems.push_back(fmt::format("tensor '{}' is not part of this {} model", name, config.model_type));
  }
  throw_weight_problems(where, std::move(problems));
}

void init_weights(const TransformerConfig& config, TransformerWeights& weights, uint64_t seed) {
  constexpr double kStd = 0.02;  // initializer_range of all families
  const at::NoGradGuard no_grad;
  for (const ParameterSlot& slot : parameter_slots(config, weights)) {
    const Tensor target = slot.tensor->detach();
    if (slot.kind != ParameterKind::kMatrix) {
      target.fill_(slot.kind == ParameterKind::kNorm ? 1.0 : 0.0);
      continue;
    }
    // The stream is keyed by the name, so that a parameter's start does not depend on which others exist.
    uint64_t hash = 0xcbf29ce484222325u;  // FNV-1a
    for (const unsigned char c : slot.name) hash = (hash ^ c) * 0x100000001b3u;
    RandomStream stream(seed, RandomPurpose::kInit, hash & 0xffffffffu, hash >> 32);
    const Tensor draw = at::empty(slot.shape, at::kFloat);
    float* values = draw.data_ptr<float>();
    for (int64_t i = 0; i < draw.numel(); ++i) values[i] = static_cast<float>(kStd * stream.normal());
    target.copy_(draw);
  }
}

}  // namespace plural
