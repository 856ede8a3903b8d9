// SPDX-License-Identifier: Apache-2.0
// Prefill and decode over the KV cache equal the packed forward.
#include "lib/models/kv_cache.h"
#include "plural/error.h"
#include "tests/models/models_support.h"

namespace plural {
namespace {

using testing::max_difference;
using testing::parse_config;
using testing::random_ids;
using testing::tiny_config;

const char* const kConfigs[] = {
    "", R"("attention_bias": true, "mlp_bias": true, "tie_word_embeddings": true, "head_dim": 10)",
    R"("model_type": "mistral", "sliding_window": 5)", R"("model_type": "qwen2")",
    R"("model_type": "qwen3", "head_dim": 8, "rope_scaling": {"type": "yarn", "factor": 2.0,
       "original_max_position_embeddings": 16})"};

Tensor on_device(const std::vector<int64_t>& values) { return at::tensor(values, at::kLong).to(test_device()); }

/// Final states of a sequence from one packed forward.
Tensor full_states(TransformerPolicy& policy, const std::vector<TokenId>& ids) {
  PackedBatch batch;
  batch.ids = at::tensor(ids, at::kLong);
  batch.positions = at::arange(batch.ids.numel(), at::kLong);
  batch.segments = {{0, batch.ids.numel(), -1}};
  return policy.hidden(batch.to(test_device()));
}

}  // namespace

TEST_CASE("Cached decoding equals the full forward") {
  const at::NoGradGuard no_grad;
  at::manual_seed(5);
  for (const char* fields : kConfigs) {
    INFO(fields);
    const auto policy = TransformerPolicy::init(parse_config(tiny_config(fields)), 3, test_device(), at::kFloat);
    testing::scramble(*policy, 12);
    KvCache cache(policy->config(), 4, 10, test_device(), at::kFloat);
    const std::vector<std::vector<TokenId>> prompts = {random_ids(7, 50), random_ids(3, 50)};
    PackedBatch batch;
    batch.ids = at::cat({at::tensor(prompts[0], at::kLong), at::tensor(prompts[1], at::kLong)});
    batch.positions = at::cat({at::arange(7, at::kLong), at::arange(3, at::kLong)});
    batch.segments = {{0, 7, -1}, {7, 3, -1}};
    const Tensor first = policy->prefill(batch.to(test_device()), cache, 40);
    for (int p = 0; p < 2; ++p) CHECK(max_difference(first[p], full_states(*policy, prompts[p])[-1]) <= 1e-5);

    // Rows 0 and 1 read prompt 0, row 2 prompt 1; slots are not in row order, and a row joins late.
    const std::vector<int64_t> prompt_of = {0, 0, 1}, slot_of = {2, 0, 3};
    std::vector<std::vector<TokenId>> sequences = {prompts[0], prompts[0], prompts[1]};
    for (int row = 0; row < 3; ++row) cache.assign(slot_of[row], 40 + prompt_of[row]);
    for (int step = 0; step < 9; ++step) {
      const int live = step < 2 ? 2 : 3;
      std::vector<int64_t> ids, positions, slots;
      for (int row = 3 - live; row < 3; ++row) {
        ids.push_back(random_ids(1, 50)[0]);
        positions.push_back(static_cast<int64_t>(sequences[row].size()));
        CHECK(cache.total_length(slot_of[row]) == positions.back());
        slots.push_back(slot_of[row]);
        sequences[row].push_back(ids.back());
      }
      const Tensor states = policy->decode(on_device(ids), on_device(positions), slots, cache);
      for (int row = 3 - live; row < 3; ++row) {
        INFO("step " << step << ", row " << row);
        const Tensor expected = full_states(*policy, sequences[row])[-1];
        CHECK(max_difference(states[row - (3 - live)], expected) <= 1e-4);
        CHECK(max_difference(policy->logits(states)[row - (3 - live)], policy->logits(expected.unsqueeze(0))[0]) <=
              1e-4);
      }
    }
    // A released slot starts again with another prompt and sees nothing of the old row.
    cache.release(2);
    cache.assign(2, 41);
    const Tensor again = policy->decode(on_device({9}), on_device({3}), {2}, cache);
    std::vector<TokenId> sequence = prompts[1];
    sequence.push_back(9);
    CHECK(max_difference(again[0], full_states(*policy, sequence)[-1]) <= 1e-4);
  }
}

TEST_CASE("The cache refuses misuse", "[host]") {
  const TransformerConfig config = parse_config(tiny_config());
  KvCache cache(config, 2, 1, at::kCPU, at::kFloat);
  const Tensor keys = at::zeros({2, 3, 6});
  for (int64_t layer = 0; layer < 2; ++layer) cache.set_prefix(5, layer, keys, keys);
  CHECK(cache.prefix_length(5) == 3);
  CHECK_THROWS_AS(cache.assign(0, 4), CheckError);
  cache.assign(0, 5);
  CHECK_THROWS_AS(cache.assign(0, 5), CheckError);
  CHECK_THROWS_AS(cache.assign(2, 5), CheckError);
  CHECK_THROWS_AS(cache.drop_prefix(5), CheckError);
  cache.advance({0});
  CHECK(cache.total_length(0) == 4);
  CHECK_THROWS_AS(cache.advance({0}), CheckError);
  cache.release(0);
  CHECK_THROWS_AS(cache.release(0), CheckError);
  cache.drop_prefix(5);
  CHECK(!cache.has_prefix(5));
}

TEST_CASE("Prepacked weights decode the same numbers until they are let go") {
  const at::NoGradGuard no_grad;
  for (const char* fields : kConfigs) {
    INFO(fields);
    const auto policy = TransformerPolicy::init(parse_config(tiny_config(fields)), 3, test_device(), at::kBFloat16);
    testing::scramble(*policy, 12);
    const auto decode = [&] {
      KvCache cache(policy->config(), 2, 4, test_device(), at::kBFloat16);
      PackedBatch batch;
      batch.ids = at::arange(5, 12, at::kLong);
      batch.positions = at::arange(7, at::kLong);
      batch.segments = {{0, 7, -1}};
      policy->prefill(batch.to(test_device()), cache, 0);
      for (const int64_t slot : {0, 1}) cache.assign(slot, 0);
      return policy->logits(policy->decode(on_device({3, 9}), on_device({7, 7}), {0, 1}, cache));
    };
    const Tensor plain = decode();
    auto held = policy->prepack();
    CHECK(at::equal(decode(), plain));
    // No caller may change weights meanwhile. Here it shows that the copies are what is read, as long as they are held;
    // the last layer's output projection moves no keys and values, which come from the weights themselves.
    for (auto& [name, parameter] : policy->named_parameters())
      if (name == "model.layers.1.mlp.down_proj.weight") parameter.zero_();
    CHECK(at::equal(decode(), plain) == (held != nullptr));
    held.reset();
    CHECK_FALSE(at::equal(decode(), plain));
  }
}

}  // namespace plural
