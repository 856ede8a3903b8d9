// SPDX-License-Identifier: Apache-2.0
// A model computes on every device what it computes in float64 on the CPU.
#include "tests/models/models_support.h"

namespace plural {
namespace {

using testing::max_difference;
using testing::parse_config;
using testing::random_ids;
using testing::relative_difference;
using testing::tiny_config;

struct Outcome {
  Tensor log_prob, entropy;
  NamedTensors gradients;
};

/// Log-probs, entropies and the gradient of a weighted sum of both, for one model wherever it stands.
Outcome evaluate(const std::string& config, const PackedBatch& batch, at::Device device, at::ScalarType dtype) {
  const auto exact = TransformerPolicy::init(parse_config(config), 3, at::kCPU, at::kDouble);
  testing::scramble(*exact, 12);
  const auto policy = TransformerPolicy::init(parse_config(config), 3, device, dtype);
  policy->load_values(exact->named_parameters());
  const PolicyOutput output = policy->evaluate(batch.to(device), {.temperature = 0.8, .entropy = true});
  const Tensor weights = at::sin(at::arange(1, output.log_prob.numel() + 1, at::kDouble)).to(device);
  ((output.log_prob * weights).sum() + 0.3 * (output.entropy * weights).sum()).backward();
  Outcome outcome{output.log_prob.detach(), output.entropy.detach(), {}};
  for (const auto& [name, parameter] : policy->named_parameters())
    outcome.gradients.emplace_back(name, parameter.grad());
  return outcome;
}

}  // namespace

TEST_CASE("Log-probs and gradients of a device equal those of the CPU in float64") {
  at::manual_seed(6);
  const std::vector<TokenId> first = random_ids(11, 50), second = random_ids(3, 50);
  const std::vector<std::vector<TokenId>> completions = {random_ids(6, 50), random_ids(17, 50), random_ids(4, 50)};
  const std::vector<PackRow> rows = {{first, completions[0]}, {first, completions[1]}, {second, completions[2]}};
  const PackedBatch batch = pack_rows(rows);
  for (const char* fields :
       {"", R"("attention_bias": true, "mlp_bias": true, "tie_word_embeddings": true, "head_dim": 10)",
        R"("model_type": "mistral", "sliding_window": 5)", R"("model_type": "qwen2")",
        R"("model_type": "qwen3", "head_dim": 8)"}) {
    INFO(fields);
    const Outcome expected = evaluate(tiny_config(fields), batch, at::kCPU, at::kDouble);
    // bfloat16 has 8 bits: its log-probs are off by some hundredths, and gradients by some hundredths of the largest.
    for (const auto& [dtype, limit] : {std::pair{at::kFloat, 2e-5}, std::pair{at::kBFloat16, 0.1}}) {
      INFO(at::toString(dtype));
      const Outcome found = evaluate(tiny_config(fields), batch, test_device(), dtype);
      CHECK(found.log_prob.device() == test_device());
      CHECK(max_difference(found.log_prob, expected.log_prob) <= limit);
      CHECK(max_difference(found.entropy, expected.entropy) <= limit);
      REQUIRE(found.gradients.size() == expected.gradients.size());
      for (size_t i = 0; i < found.gradients.size(); ++i) {
        INFO(found.gradients[i].first);
        CHECK(relative_difference(found.gradients[i].second, expected.gradients[i].second) <= limit);
      }
    }
  }
}

}  // namespace plural
