// SPDX-License-Identifier: Apache-2.0
// SmolLM2 against `transformers` (tests/parity/generation_parity.py), and sampler against trainer.
#include <ATen/core/grad_mode.h>

#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "plural/rollout.h"
#include "tests/support/catch.h"
#include "tests/support/device.h"
#include "tests/support/parity.h"

using namespace plural;

namespace {

std::filesystem::path model_dir() {
  const char* home = std::getenv("PLURAL_HOME");
  if (home == nullptr) FAIL("run through ctest: PLURAL_HOME is not set");
  const std::filesystem::path dir = std::filesystem::path(home) / "models" / "SmolLM2-135M-Instruct";
  INFO(dir.string() << " is made by `make setup`");
  REQUIRE(std::filesystem::exists(dir / "config.json"));
  return dir;
}

/// |sampler - trainer| of log-probs, all tokens of a rollout.
Tensor difference(TransformerPolicy& policy, const RolloutBatch& batch, double temperature) {
  std::vector<PackRow> rows;
  std::vector<float> sampled;
  for (size_t r = 0; r < batch.rows.size(); ++r) {
    rows.push_back({batch.prompts[r / batch.samples_per_prompt], batch.rows[r].ids});
    sampled.insert(sampled.end(), batch.rows[r].log_probs.begin(), batch.rows[r].log_probs.end());
  }
  const at::NoGradGuard no_grad;
  const PolicyOutput scored = policy.evaluate(pack_rows(rows).to(policy.device()), {.temperature = temperature});
  return (scored.log_prob.cpu() - at::tensor(sampled)).abs();
}

bool multiplies_bfloat16() {
#ifdef __x86_64__
  return __builtin_cpu_supports("avx512bf16") != 0;
#else
  return false;
#endif
}

}  // namespace

TEST_CASE("greedy generation equals transformers token for token", "[parity]") {
  const auto dir = model_dir();
  const auto expected = run_parity_script("generation_parity.py", "'" + dir.string() + "' 24");
  const auto prompts = expected.at("prompts").get<std::vector<std::vector<TokenId>>>();
  REQUIRE(prompts.size() == 50);
  const Tokenizer tokenizer = Tokenizer::load(dir);
  const auto policy = TransformerPolicy::load(dir, test_device(), at::kFloat);
  SamplingOptions options;
  options.temperature = 0;
  options.max_new_tokens = 24;
  options.max_rows = 32;  // fewer places than rows: some wait
  const RolloutBatch batch = make_local_engine(*policy, tokenizer)->generate(prompts, options, {});
  for (size_t p = 0; p < prompts.size(); ++p) {
    INFO("prompt " << p << ": " << tokenizer.decode(prompts[p]));
    CHECK(batch.rows[p].ids == expected.at("completions")[p].get<std::vector<TokenId>>());
  }
  // Greedy log-probs are those of temperature 1.
  CHECK(difference(*policy, batch, 1.0).max().item<float>() < 1e-4);
}

TEST_CASE("SmolLM2: sampler and trainer agree on log-probs", "[parity]") {
  const auto dir = model_dir();
  const Tokenizer tokenizer = Tokenizer::load(dir);
  std::vector<std::vector<TokenId>> prompts;
  for (const char* text : {"Name three kinds of garment.", "Tell me about the sea in one long sentence, please."}) {
    prompts.push_back(tokenizer.encode_chat(std::vector<Message>{{"user", text}}));
  }
  SamplingOptions options;
  options.samples_per_prompt = 4;
  options.max_new_tokens = 32;
  for (const auto dtype : {at::kFloat, at::kBFloat16}) {
    const auto policy = TransformerPolicy::load(dir, test_device(), dtype);
    const Tensor error = difference(*policy, make_local_engine(*policy, tokenizer)->generate(prompts, options, {}),
                                    1.0);
    INFO(c10::toString(dtype) << ": mean " << error.mean().item<float>() << ", max " << error.max().item<float>());
    if (dtype == at::kFloat) {
      CHECK(error.max().item<float>() < 1e-4);
    } else {
      // docs/design/004-bf16-mismatch.md: processors that only emulate bfloat16 round by the size of the batch.
      CHECK(error.mean().item<float>() < (test_device().is_cuda() || multiplies_bfloat16() ? 0.01 : 0.03));
    }
  }
}
