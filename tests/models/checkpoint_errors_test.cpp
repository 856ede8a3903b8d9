// SPDX-License-Identifier: Apache-2.0
// Folders that do not fit: every complaint names the file and the field or tensor.
#include <nlohmann/json.hpp>

#include "plural/checkpoint.h"
#include "plural/error.h"
#include "tests/models/models_support.h"

namespace plural {
namespace {

using Catch::Contains;
using testing::parse_config;
using testing::TemporaryFolder;
using testing::tiny_config;
using testing::write_text;

/// A good folder whose tensors the test then spoils.
NamedTensors good_tensors(const std::string& config = tiny_config()) {
  NamedTensors tensors;
  for (auto& [name, tensor] :
       TransformerPolicy::init(parse_config(config), 4, at::kCPU, at::kFloat)->named_parameters())
    tensors.emplace_back(name, tensor.detach().clone());
  return tensors;
}

void write_folder(const std::filesystem::path& dir, const NamedTensors& tensors,
                  const std::string& config = tiny_config()) {
  write_text(dir / "config.json", config);
  write_safetensors(dir / "model.safetensors", tensors);
}

std::unique_ptr<TransformerPolicy> load(const std::filesystem::path& dir) {
  return TransformerPolicy::load(dir, at::kCPU, at::kFloat);
}

}  // namespace

TEST_CASE("Missing, surplus and misshapen tensors are all named in one error") {
  const TemporaryFolder folder;
  NamedTensors tensors = good_tensors();
  for (auto& [name, tensor] : tensors) {
    if (name == "model.norm.weight") name = "model.norm.wait";
    if (name == "model.layers.1.mlp.up_proj.weight") tensor = at::zeros({24, 40});
    if (name == "model.layers.0.self_attn.k_proj.weight") tensor = at::zeros({12, 24}, at::kLong);
  }
  write_folder(folder.path(), tensors);
  CHECK_THROWS_AS(load(folder.path()), InputError);
  CHECK_THROWS_WITH(load(folder.path()),
                    Contains(folder.path().string()) && Contains("tensor 'model.norm.weight' is missing") &&
                        Contains("'model.norm.wait' is not part of this llama model") &&
                        Contains("'model.layers.1.mlp.up_proj.weight' has shape [24, 40], expected [40, 24]") &&
                        Contains("'model.layers.0.self_attn.k_proj.weight' has type Long"));
}

TEST_CASE("A head that is written although tied is ignored, and a missing head is not") {
  const std::string tied = tiny_config(R"("tie_word_embeddings": true)");
  const TemporaryFolder folder;
  NamedTensors tensors = good_tensors(tied);
  tensors.emplace_back("lm_head.weight", tensors[0].second.clone());
  write_folder(folder.path(), tensors, tied);
  CHECK(load(folder.path())->named_parameters().size() == tensors.size() - 1);
  tensors.pop_back();
  write_folder(folder.path(), tensors, tiny_config());
  CHECK_THROWS_WITH(load(folder.path()), Contains("tensor 'lm_head.weight' is missing (expected shape [50, 24])"));
}

TEST_CASE("Weights of other float types are converted") {
  const TemporaryFolder folder;
  NamedTensors tensors = good_tensors();
  const at::ScalarType types[] = {at::kFloat, at::kHalf, at::kBFloat16, at::kDouble};
  for (size_t i = 0; i < tensors.size(); ++i) tensors[i].second = tensors[i].second.to(types[i % 4]);
  write_folder(folder.path(), tensors);
  const auto policy = TransformerPolicy::load(folder.path(), at::kCPU, at::kBFloat16);
  const auto parameters = policy->named_parameters();
  REQUIRE(parameters.size() == tensors.size());
  for (size_t i = 0; i < tensors.size(); ++i)
    CHECK(at::equal(parameters[i].second, tensors[i].second.to(at::kBFloat16)));
}

TEST_CASE("Shards that do not keep the index's promises are named") {
  const TemporaryFolder folder;
  const NamedTensors tensors = good_tensors();
  const size_t half = tensors.size() / 2;
  write_text(folder.path() / "config.json", tiny_config());
  const NamedTensors first(tensors.begin(), tensors.begin() + half), second(tensors.begin() + half, tensors.end());
  write_safetensors(folder.path() / "a.safetensors", first);
  write_safetensors(folder.path() / "b.safetensors", second);
  nlohmann::json index;
  for (const auto& [name, tensor] : first) index["weight_map"][name] = "a.safetensors";
  for (const auto& [name, tensor] : second) index["weight_map"][name] = "b.safetensors";
  const auto file = folder.path() / "model.safetensors.index.json";
  write_text(file, index.dump());
  CHECK(load(folder.path())->named_parameters().size() == tensors.size());

  auto wrong = index;
  wrong["weight_map"]["model.norm.weight"] = "a.safetensors";
  write_text(file, wrong.dump());
  CHECK_THROWS_WITH(load(folder.path()), Contains("a.safetensors: tensor 'model.norm.weight' is missing"));
  wrong = index;
  wrong["weight_map"]["model.norm.weight"] = "../b.safetensors";
  write_text(file, wrong.dump());
  CHECK_THROWS_WITH(load(folder.path()), Contains("expected a file name in the same folder"));
  write_safetensors(folder.path() / "b.safetensors", tensors);
  write_text(file, index.dump());
  CHECK_THROWS_WITH(load(folder.path()), Contains("b.safetensors: tensor '") && Contains("another shard"));
  write_text(file, "{}");
  CHECK_THROWS_WITH(load(folder.path()), Contains("weight_map"));
  std::filesystem::remove(file);
  CHECK_THROWS_WITH(load(folder.path()), Contains("neither model.safetensors nor model.safetensors.index.json"));
}

TEST_CASE("Unusable config fields are named") {
  const struct {
    const char *fields, *file_part, *reason;
  } cases[] = {
      {R"("model_type": "gpt2")", "field 'model_type'", "supported: llama, mistral, qwen2, qwen3"},
      {R"("hidden_act": "gelu")", "field 'hidden_act'", "'gelu' is not supported"},
      {R"("num_key_value_heads": 3)", "field 'num_key_value_heads'", "must divide num_attention_heads (4)"},
      {R"("num_hidden_layers": 0)", "field 'num_hidden_layers'", "expected a positive integer, found 0"},
      {R"("vocab_size": "50")", "field 'vocab_size'", "expected a positive integer, found \"50\""},
      {R"("hidden_size": null)", "field 'hidden_size'", "is missing"},
      {R"("hidden_size": 26)", "field 'hidden_size'", "not a multiple of num_attention_heads (4)"},
      {R"("head_dim": 7)", "field 'head_dim'", "must be even"},
      {R"("rms_norm_eps": -1)", "field 'rms_norm_eps'", "at least 0"},
      {R"("tie_word_embeddings": 1)", "field 'tie_word_embeddings'", "expected true or false, found 1"},
      {R"("quantization_config": {})", "field 'quantization_config'", "not supported"},
      {R"("rope_scaling": "linear")", "field 'rope_scaling'", "expected an object"},
      {R"("rope_scaling": {"type": "dynamic", "factor": 2})", "field 'rope_scaling.rope_type'", "'dynamic'"},
      {R"("rope_parameters": {"rope_type": "linear"})", "field 'rope_parameters.factor'", "is missing"},
      {R"("rope_parameters": {"partial_rotary_factor": 0.5})", "partial_rotary_factor", "only 1.0"},
      {R"("rope_scaling": {"rope_type": "llama3", "factor": 8, "low_freq_factor": 4, "high_freq_factor": 1})",
       "field 'rope_scaling.high_freq_factor'", "greater than low_freq_factor (4)"},
      {R"("model_type": "mistral", "sliding_window": 0)", "field 'sliding_window'", "expected a positive integer"},
      {R"("model_type": "qwen2", "use_sliding_window": true, "layer_types": ["full_attention"])", "field 'layer_types'",
       "a list of 2 names"},
      {R"("model_type": "qwen3", "layer_types": ["full_attention", "linear_attention"])", "field 'layer_types'",
       "layer 1"},
      {R"("model_type": "qwen3", "layer_types": ["full_attention", "sliding_attention"])", "field 'layer_types'",
       "use_sliding_window is not true"},
  };
  for (const auto& c : cases) {
    INFO(c.fields);
    // Later fields win: the tiny configuration with one thing wrong.
    const auto merged = nlohmann::json::parse(tiny_config());
    auto spoiled = merged;
    spoiled.update(nlohmann::json::parse(std::string("{") + c.fields + "}"));
    CHECK_THROWS_AS(parse_config(spoiled.dump()), InputError);
    CHECK_THROWS_WITH(parse_config(spoiled.dump()),
                      Contains("config.json: field") && Contains(c.file_part) && Contains(c.reason));
  }
  CHECK_THROWS_WITH(parse_config("{"), Contains("not valid JSON"));
  CHECK_THROWS_WITH(parse_config("[]"), Contains("expected a JSON object"));
  CHECK_THROWS_WITH(load_transformer_config("/nowhere/config.json"), Contains("/nowhere/config.json: cannot be read"));
  CHECK_THROWS_WITH(load("/nowhere"), Contains("is not a folder"));
}

TEST_CASE("Initialisation is a function of the configuration and the seed") {
  const auto draw = [](uint64_t seed) {
    return TransformerPolicy::init(parse_config(tiny_config()), seed, at::kCPU, at::kFloat);
  };
  const auto first = draw(1), again = draw(1), other = draw(2);
  const auto a = first->named_parameters(), b = again->named_parameters(), c = other->named_parameters();
  for (size_t i = 0; i < a.size(); ++i) {
    INFO(a[i].first);
    CHECK(at::equal(a[i].second, b[i].second));
    if (a[i].first.find("norm") != std::string::npos) {
      CHECK(at::equal(a[i].second, at::ones_like(a[i].second)));
      continue;
    }
    CHECK(!at::equal(a[i].second, c[i].second));
    const double count = static_cast<double>(a[i].second.numel());
    // Sample mean and std of normal(0, 0.02) lie within 5 standard errors.
    CHECK(std::abs(a[i].second.mean().item<double>()) <= 5 * 0.02 / std::sqrt(count));
    CHECK(a[i].second.std().item<double>() == Approx(0.02).margin(5 * 0.02 / std::sqrt(2 * count)));
  }
  // Two matrices of one shape differ: each has its own stream.
  CHECK(!at::equal(a[1 + 1].second, a[10 + 1].second));
}

TEST_CASE("A frozen copy has the values, no gradients and a life of its own") {
  const auto policy = TransformerPolicy::init(parse_config(tiny_config()), 1, at::kCPU, at::kFloat);
  const auto copy = policy->frozen_copy();
  const auto ours = policy->named_parameters(), theirs = copy->named_parameters();
  for (size_t i = 0; i < ours.size(); ++i) {
    CHECK(ours[i].second.requires_grad());
    CHECK(!theirs[i].second.requires_grad());
    CHECK(at::equal(ours[i].second, theirs[i].second));
    const at::NoGradGuard no_grad;
    ours[i].second.add_(1.0);
    CHECK(!at::equal(ours[i].second, theirs[i].second));
  }
}

}  // namespace plural
