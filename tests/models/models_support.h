// SPDX-License-Identifier: Apache-2.0
// Tiny configurations, temporary folders and the Python oracle, for the tests of models.
#pragma once

#include <ATen/core/grad_mode.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <random>
#include <string>
#include <vector>

#include "plural/policy.h"
#include "plural/transformer.h"
#include "tests/support/catch.h"
#include "tests/support/device.h"

namespace plural::testing {

/// A folder that is gone at the end of the test.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    path_ = std::filesystem::temp_directory_path() / ("plural_models_" + std::to_string(std::random_device{}()));
    std::filesystem::create_directories(path_);
  }
  ~TemporaryFolder() { std::filesystem::remove_all(path_); }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

/// A variable that ctest sets; the test fails with its name when it is missing.
inline std::string required_variable(const char* name) {
  const char* value = std::getenv(name);
  INFO(name << " is set by ctest; run the test through it");
  REQUIRE(value != nullptr);
  return value;
}

/// Runs tests/parity/models_parity.py; what it says is shown when it fails.
inline void run_parity_script(const std::string& arguments) {
  const TemporaryFolder folder;
  const std::string log = (folder.path() / "log").string();
  const std::string command = "'" + required_variable("PLURAL_TEST_PYTHON") + "' '" +
                              required_variable("PLURAL_SOURCE_DIR") + "/tests/parity/models_parity.py' " + arguments +
                              " > '" + log + "' 2>&1";
  const int status = std::system(command.c_str());
  std::ifstream stream(log);
  const std::string output{std::istreambuf_iterator<char>(stream), {}};
  INFO(command << "\n" << output);
  REQUIRE(status == 0);
}

inline void write_text(const std::filesystem::path& file, const std::string& text) {
  std::ofstream(file, std::ios::binary) << text;
}

/// The smallest llama with grouped heads that is still a real model, as config.json text.
inline std::string tiny_config(const std::string& more_fields = "") {
  return R"({"model_type": "llama", "vocab_size": 50, "hidden_size": 24, "intermediate_size": 40,
             "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
             "max_position_embeddings": 128)" +
         (more_fields.empty() ? "" : ", " + more_fields) + "}";
}

inline TransformerConfig parse_config(const std::string& text) {
  const TemporaryFolder folder;
  write_text(folder.path() / "config.json", text);
  return load_transformer_config(folder.path() / "config.json");
}

/// Weights far from their start values, so that every part of the network matters; the same on every device.
inline void scramble(TransformerPolicy& policy, uint64_t seed) {
  const at::NoGradGuard no_grad;
  at::manual_seed(seed);
  for (auto& [name, tensor] : policy.named_parameters())
    tensor.add_((at::randn(tensor.sizes(), tensor.options().device(at::kCPU)) * 0.15).to(tensor.device()));
}

inline std::vector<TokenId> random_ids(int64_t count, int64_t vocabulary) {
  std::vector<TokenId> ids(count);
  const Tensor draw = at::randint(vocabulary, {count}, at::kLong);
  std::copy_n(draw.data_ptr<int64_t>(), count, ids.begin());
  return ids;
}

inline double max_difference(const Tensor& a, const Tensor& b) {
  REQUIRE(a.sizes() == b.sizes());
  return a.numel() == 0 ? 0.0 : (a.to(at::kDouble).cpu() - b.to(at::kDouble).cpu()).abs().max().item<double>();
}

/// max |a - b| / max |b|
inline double relative_difference(const Tensor& a, const Tensor& b) {
  return max_difference(a, b) / std::max(1e-30, b.to(at::kDouble).abs().max().item<double>());
}

}  // namespace plural::testing
