// SPDX-License-Identifier: Apache-2.0
// A model folder small enough for any test: a byte-level tokenizer without merges (256 bytes + 3 special tokens), the
// ChatML template and a two-layer llama.
#pragma once

#include <filesystem>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "plural/tokenizer.h"
#include "plural/transformer.h"

inline constexpr int64_t kTinyVocab = 259;

/// GPT-2's spelling of bytes as printable characters, UTF-8.
inline std::string tiny_byte_symbol(int byte) {
  const auto printable = [](int b) { return (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174; };
  int code = byte;
  if (!printable(byte)) {
    code = 256;
    for (int b = 0; b < byte; ++b) code += printable(b) ? 0 : 1;
  }
  if (code < 128) return std::string(1, static_cast<char>(code));
  return {static_cast<char>(0xC0 | (code >> 6)), static_cast<char>(0x80 | (code & 0x3F))};
}

/// Writes tokenizer.json, tokenizer_config.json and config.json into `dir`.
inline void write_tiny_model_files(const std::filesystem::path& dir, int64_t width = 32, int64_t context = 512) {
  using nlohmann::json;
  std::filesystem::create_directories(dir);
  json vocab = json::object();
  for (int b = 0; b < 256; ++b) vocab[tiny_byte_symbol(b)] = b;
  json added = json::array();
  int id = 256;
  for (const char* token : {"<|endoftext|>", "<|im_start|>", "<|im_end|>"}) {
    vocab[token] = id;
    added.push_back({{"id", id++},
                     {"content", token},
                     {"single_word", false},
                     {"lstrip", false},
                     {"rstrip", false},
                     {"normalized", false},
                     {"special", true}});
  }
  const json byte_level = {
      {"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", true}};
  const json tokenizer = {{"version", "1.0"},
                          {"truncation", nullptr},
                          {"padding", nullptr},
                          {"added_tokens", added},
                          {"normalizer", nullptr},
                          {"pre_tokenizer", byte_level},
                          {"post_processor", nullptr},
                          {"decoder", byte_level},
                          {"model",
                           {{"type", "BPE"},
                            {"dropout", nullptr},
                            {"unk_token", nullptr},
                            {"continuing_subword_prefix", nullptr},
                            {"end_of_word_suffix", nullptr},
                            {"fuse_unk", false},
                            {"byte_fallback", false},
                            {"vocab", vocab},
                            {"merges", json::array()}}}};
  const json tokenizer_config = {
      {"tokenizer_class", "GPT2Tokenizer"},
      {"bos_token", "<|im_start|>"},
      {"eos_token", "<|im_end|>"},
      {"chat_template",
       "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + "
       "'\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"}};
  const json config = {{"architectures", {"LlamaForCausalLM"}},
                       {"model_type", "llama"},
                       {"vocab_size", kTinyVocab},
                       {"hidden_size", width},
                       {"intermediate_size", 2 * width},
                       {"num_hidden_layers", 2},
                       {"num_attention_heads", 4},
                       {"num_key_value_heads", 2},
                       {"max_position_embeddings", context},
                       {"rms_norm_eps", 1e-5},
                       {"rope_theta", 10000.0},
                       {"hidden_act", "silu"},
                       {"tie_word_embeddings", true},
                       {"attention_bias", false},
                       {"mlp_bias", false},
                       {"bos_token_id", 257},
                       {"eos_token_id", 258},
                       {"torch_dtype", "float32"}};
  std::ofstream(dir / "tokenizer.json") << tokenizer.dump();
  std::ofstream(dir / "tokenizer_config.json") << tokenizer_config.dump();
  std::ofstream(dir / "config.json") << config.dump(1);
}

/// A policy with random weights for a folder written above.
inline std::unique_ptr<plural::TransformerPolicy> tiny_policy(const std::filesystem::path& dir, uint64_t seed,
                                                              at::Device device = at::kCPU,
                                                              at::ScalarType dtype = at::kFloat) {
  return plural::TransformerPolicy::init(plural::load_transformer_config(dir / "config.json"), seed, device, dtype);
}
