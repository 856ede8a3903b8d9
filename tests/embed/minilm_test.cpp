// SPDX-License-Identifier: Apache-2.0
// WordPiece ids against `tokenizers` and sentence embeddings against `transformers` (tests/parity/minilm_parity.py), on
// all-MiniLM-L6-v2.
#include <cstdlib>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>

#include "lib/text/wordpiece.h"
#include "plural/checkpoint.h"
#include "plural/config.h"
#include "plural/embedder.h"
#include "plural/error.h"
#include "tests/support/binary_reader.h"
#include "tests/support/catch.h"
#include "tests/support/temp_dir.h"

namespace plural {
namespace {

namespace fs = std::filesystem;

std::string required_variable(const char* name) {
  const char* value = std::getenv(name);
  if (value == nullptr) FAIL("run through ctest: " << name << " is not set");
  return value;
}

fs::path model_dir() {
  const fs::path dir = fs::path(required_variable("PLURAL_HOME")) / "models" / "all-MiniLM-L6-v2";
  INFO(dir << " is made by tools/setup.sh");
  REQUIRE(fs::exists(dir / "model.safetensors"));
  return dir;
}

/// The script's files; made once.
const fs::path& expected_dir() {
  static const TempDir dir;
  static const bool made = [] {
    const std::string command = "'" + required_variable("PLURAL_TEST_PYTHON") + "' '" +
                                required_variable("PLURAL_SOURCE_DIR") + "/tests/parity/minilm_parity.py' '" +
                                model_dir().string() + "' '" + dir.path().string() + "'";
    return std::system(command.c_str()) == 0;
  }();
  REQUIRE(made);
  return dir.path();
}

std::vector<std::string> lines() {
  BinaryReader reader(expected_dir() / "lines.bin");
  std::vector<std::string> result(reader.number());
  for (std::string& line : result) line = reader.text();
  return result;
}

/// A folder like the model's in which files may be replaced.
void link_model(const TempDir& dir) {
  for (const char* name : {"config.json", "tokenizer.json", "model.safetensors", "sentence_bert_config.json"})
    fs::create_symlink(model_dir() / name, dir / name);
}

std::string problem_with(const TempDir& dir) {
  return thrown<InputError>(
      [&] { builtin_embedders().make("minilm", parse_yaml("{path: '" + dir.path().string() + "'}", "options")); });
}

TEST_CASE("WordPiece ids equal those of the tokenizers library") {
  const WordPiece tokenizer = WordPiece::load(model_dir());
  CHECK(tokenizer.vocab_size() == 30522);
  const std::vector<std::string> texts = lines();
  BinaryReader expected(expected_dir() / "ids.bin");
  REQUIRE(expected.number() == texts.size());
  REQUIRE(texts.size() > 20000);
  size_t wrong = 0;
  std::string report;
  for (size_t i = 0; i < texts.size(); ++i) {
    const std::vector<TokenId> wanted = expected.ids();
    const std::vector<TokenId> found = tokenizer.encode(texts[i], 256);
    if (found == wanted || ++wrong > 3) continue;
    const auto shown = [](const auto& value) {
      return nlohmann::json(value).dump(-1, ' ', true, nlohmann::json::error_handler_t::replace);
    };
    report += "\nline " + std::to_string(i) + ": " + shown(texts[i]) + "\n  expected " + shown(wanted) +
              "\n  found    " + shown(found);
  }
  INFO(report);
  CHECK(wrong == 0);
}

TEST_CASE("sentence embeddings equal those of transformers") {
  const auto embedder = builtin_embedders().make("minilm",
                                                 parse_yaml("{path: '" + model_dir().string() + "'}", "options"));
  NamedTensors expected = read_safetensors(expected_dir() / "vectors.safetensors");
  std::map<std::string, Tensor> by_name(expected.begin(), expected.end());
  const Tensor wanted = by_name.at("vector"), line = by_name.at("line");
  REQUIRE(wanted.size(0) >= 300);
  const std::vector<std::string> all = lines();
  std::vector<std::string_view> texts;
  for (int64_t i = 0; i < line.numel(); ++i) texts.push_back(all[static_cast<size_t>(line[i].item<int64_t>())]);
  const Tensor found = embedder->embed(texts, at::kCPU);
  REQUIRE(found.sizes() == wanted.sizes());
  CHECK((found - wanted).abs().max().item<double>() < 1e-5);
  CHECK((found.norm(2, 1) - 1).abs().max().item<double>() < 1e-5);
}

TEST_CASE("minilm knows meanings, and nothing is nothing") {
  const auto embedder = builtin_embedders().make("minilm",
                                                 parse_yaml("{path: '" + model_dir().string() + "'}", "options"));
  const std::vector<std::string_view> texts = {"physician", "doctor", "banana", "", " \t"};
  const Tensor vectors = embedder->embed(texts, at::kCPU);
  CHECK(vectors[0].dot(vectors[1]).item<double>() > vectors[0].dot(vectors[2]).item<double>() + 0.3);
  CHECK(vectors[3].abs().max().item<double>() == 0);
  CHECK(vectors[4].abs().max().item<double>() == 0);
}

TEST_CASE("minilm refuses folders that it would read wrongly") {
  CHECK_THROWS_WITH(builtin_embedders().make("minilm"), Catch::Contains("path"));
  {
    const TempDir dir;
    CHECK_THAT(problem_with(dir), Catch::Contains("tokenizer.json") && Catch::Contains("no such file"));
  }
  const auto with_config = [](const char* field, const nlohmann::json& value) {
    const TempDir dir;
    link_model(dir);
    auto config = nlohmann::json::parse(read_bytes(model_dir() / "config.json"));
    config[field] = value;
    fs::remove(dir / "config.json");
    dir.write("config.json", config.dump());
    return problem_with(dir);
  };
  CHECK_THAT(with_config("model_type", "roberta"), Catch::Contains("model_type") && Catch::Contains("'roberta'"));
  CHECK_THAT(with_config("hidden_act", "relu"), Catch::Contains("hidden_act"));
  CHECK_THAT(with_config("num_attention_heads", 7), Catch::Contains("does not divide"));
  CHECK_THAT(with_config("intermediate_size", 100), Catch::Contains("encoder.layer.0.intermediate.dense.weight"));
  CHECK_THAT(with_config("num_hidden_layers", 7), Catch::Contains("encoder.layer.6") && Catch::Contains("is missing"));
  const auto with_tokenizer = [](const char* part, const char* type) {
    const TempDir dir;
    link_model(dir);
    auto tokenizer = nlohmann::json::parse(read_bytes(model_dir() / "tokenizer.json"));
    tokenizer[part]["type"] = type;
    fs::remove(dir / "tokenizer.json");
    dir.write("tokenizer.json", tokenizer.dump());
    return problem_with(dir);
  };
  CHECK_THAT(with_tokenizer("model", "BPE"), Catch::Contains("WordPiece"));
  CHECK_THAT(with_tokenizer("normalizer", "NFC"), Catch::Contains("BertNormalizer"));
  CHECK_THAT(with_tokenizer("pre_tokenizer", "Digits"), Catch::Contains("BertPreTokenizer"));
  const TempDir dir;
  link_model(dir);
  fs::create_directory(dir / "1_Pooling");
  dir.write("1_Pooling/config.json", R"({"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": false})");
  CHECK_THAT(problem_with(dir), Catch::Contains("1_Pooling") && Catch::Contains("mean of the tokens"));
}

}  // namespace
}  // namespace plural
