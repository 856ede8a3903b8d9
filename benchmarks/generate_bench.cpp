// SPDX-License-Identifier: Apache-2.0
// Sampling speed: P prompts x G samples x N new tokens, one JSON object on standard output, as
// peers/transformers_generate.py measures it.
//   generate_bench MODEL_DIR PROMPTS.jsonl [dtype] [device] [samples] [new_tokens] [repeats]
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "plural/device.h"
#include "plural/error.h"
#include "plural/rollout.h"

int main(int argc, char** argv) {
  plural::keep_freed_memory();
  using namespace plural;
  const std::vector<std::string> args(argv + 1, argv + argc);
  if (args.size() < 2) {
    std::fprintf(stderr,
                 "usage: generate_bench MODEL_DIR PROMPTS.jsonl [dtype] [device] [samples] [new_tokens] [repeats]\n");
    return 2;
  }
  const auto arg = [&](size_t i, const char* fallback) { return i < args.size() ? args[i] : std::string(fallback); };
  try {
    const std::string dtype = arg(2, "bfloat16");
    const at::Device device = parse_device(arg(3, "cpu"));
    SamplingOptions options;
    options.samples_per_prompt = std::stoll(arg(4, "8"));
    options.max_new_tokens = std::stoll(arg(5, "48"));
    options.ignore_eos = true;
    const int repeats = std::stoi(arg(6, "3"));

    const Tokenizer tokenizer = Tokenizer::load(args[0]);
    const auto policy = TransformerPolicy::load(args[0], device, dtype == "float32" ? at::kFloat : at::kBFloat16);
    std::vector<std::vector<TokenId>> prompts;
    std::ifstream file(args[1]);
    for (std::string line; std::getline(file, line);) {
      const Message message{"user", nlohmann::json::parse(line).at("prompt").get<std::string>()};
      prompts.push_back(tokenizer.encode_chat(std::vector<Message>{message}));
    }
    const auto engine = make_local_engine(*policy, tokenizer);
    SamplingOptions warm = options;
    warm.max_new_tokens = 4;
    engine->generate(prompts, warm, {});
    std::vector<double> seconds;
    int64_t tokens = 0;
    for (int i = 0; i < repeats; ++i) {
      const auto begin = std::chrono::steady_clock::now();
      tokens = engine->generate(prompts, options, {.seed = 1, .step = static_cast<uint64_t>(i)}).generated_tokens();
      seconds.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
    }
    std::vector<double> sorted = seconds;
    std::sort(sorted.begin(), sorted.end());
    const nlohmann::ordered_json result = {
        {"name", "generate/plural/" + dtype},
        {"rows", static_cast<int64_t>(prompts.size()) * options.samples_per_prompt},
        {"new_tokens", options.max_new_tokens},
        {"seconds", seconds},
        {"tokens_per_s", static_cast<double>(tokens) / sorted[sorted.size() / 2]},
    };
    std::printf("%s\n", result.dump().c_str());
  } catch (const std::exception& error) {
    std::fprintf(stderr, "generate_bench: %s\n", error.what());
    return 1;
  }
}
