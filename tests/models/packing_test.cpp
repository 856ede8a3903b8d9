// SPDX-License-Identifier: Apache-2.0
// Packing changes what is computed together, never the result: float64 to 1e-10, values and gradients.
#include "plural/error.h"
#include "tests/models/models_support.h"

namespace plural {
namespace {

using testing::max_difference;
using testing::parse_config;
using testing::random_ids;
using testing::relative_difference;
using testing::tiny_config;

struct Row {
  std::vector<TokenId> prompt, completion;
};

std::vector<PackRow> views(const std::vector<Row>& rows) {
  std::vector<PackRow> result;
  for (const Row& row : rows) result.push_back({row.prompt, row.completion});
  return result;
}

/// Log-probs and the gradient of a weighted sum of log-probs and entropies.
struct Outcome {
  Tensor log_prob, entropy;
  std::vector<Tensor> gradients;
};

Tensor row_weights(int64_t count) { return at::sin(at::arange(1, count + 1, at::kDouble)); }

Outcome run(TransformerPolicy& policy, const PackedBatch& batch) {
  for (auto& [name, tensor] : policy.named_parameters()) tensor.mutable_grad() = Tensor();
  const PolicyOutput output = policy.evaluate(batch.to(test_device()), {.temperature = 0.7, .entropy = true});
  const Tensor weights = row_weights(output.log_prob.numel()).to(test_device());
  ((output.log_prob * weights).sum() + (output.entropy * weights * 0.3).sum()).backward();
  Outcome result{output.log_prob.detach(), output.entropy.detach(), {}};
  for (auto& [name, tensor] : policy.named_parameters()) result.gradients.push_back(tensor.grad().clone());
  return result;
}

void check_equal(const Outcome& a, const Outcome& b) {
  CHECK(max_difference(a.log_prob, b.log_prob) <= 1e-10);
  CHECK(max_difference(a.entropy, b.entropy) <= 1e-10);
  REQUIRE(a.gradients.size() == b.gradients.size());
  for (size_t i = 0; i < a.gradients.size(); ++i) CHECK(relative_difference(a.gradients[i], b.gradients[i]) <= 1e-10);
}

std::unique_ptr<TransformerPolicy> double_policy(const std::string& config) {
  auto policy = TransformerPolicy::init(parse_config(config), 3, test_device(), at::kDouble);
  testing::scramble(*policy, 11);
  return policy;
}

std::vector<Row> grouped_rows() {
  const std::vector<TokenId> first = random_ids(9, 50), second = random_ids(4, 50), third = random_ids(1, 50);
  return {{first, random_ids(6, 50)},  {first, random_ids(1, 50)}, {first, random_ids(13, 50)}, {first, {}},
          {second, random_ids(5, 50)}, {third, random_ids(2, 50)}, {third, random_ids(7, 50)}};
}

const char* const kConfigs[] = {
    "", R"("attention_bias": true, "mlp_bias": true, "tie_word_embeddings": true, "head_dim": 10)",
    R"("model_type": "mistral", "sliding_window": 5)", R"("model_type": "qwen3", "head_dim": 8)"};

}  // namespace

TEST_CASE("Sharing prompts changes neither values nor gradients") {
  at::manual_seed(1);
  for (const char* fields : kConfigs) {
    INFO(fields);
    const auto policy = double_policy(tiny_config(fields));
    const std::vector<Row> rows = grouped_rows();
    const PackedBatch shared = pack_rows(views(rows), true), separate = pack_rows(views(rows), false);
    CHECK(shared.tokens() < separate.tokens());
    REQUIRE(shared.predictions() == 34);
    check_equal(run(*policy, shared), run(*policy, separate));
  }
}

TEST_CASE("Rows packed together equal rows alone") {
  at::manual_seed(2);
  for (const char* fields : kConfigs) {
    INFO(fields);
    const auto policy = double_policy(tiny_config(fields));
    const std::vector<Row> rows = grouped_rows();
    const Tensor together = run(*policy, pack_rows(views(rows))).log_prob;
    std::vector<Tensor> alone;
    for (const PackRow& row : views(rows)) {
      const at::NoGradGuard no_grad;
      alone.push_back(policy->evaluate(pack_rows({&row, 1}).to(test_device()), {.temperature = 0.7}).log_prob);
    }
    CHECK(max_difference(together, at::cat(alone)) <= 1e-10);
  }
}

TEST_CASE("A chain of segments is one sequence") {
  at::manual_seed(3);
  for (const char* fields : kConfigs) {
    INFO(fields);
    const auto policy = double_policy(tiny_config(fields));
    // Root (5 tokens) -> middle (3) -> two leaves (4 and 2); and a second root (6).
    const std::vector<TokenId> ids = random_ids(20, 50);
    PackedBatch chained;
    chained.ids = at::tensor(ids, at::kLong);
    chained.segments = {{0, 5, -1}, {5, 3, 0}, {8, 4, 1}, {12, 2, 1}, {14, 6, -1}};
    chained.positions = at::tensor({0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 8, 9, 0, 1, 2, 3, 4, 5}, at::kLong);
    chained.source = at::tensor({11, 13, 19, 6}, at::kLong);
    chained.target = at::tensor({1, 2, 3, 4}, at::kLong);
    const auto part = [&](std::initializer_list<std::pair<int, int>> ranges) {
      std::vector<int64_t> indices;
      for (const auto& [begin, end] : ranges)
        for (int i = begin; i < end; ++i) indices.push_back(i);
      return indices;
    };
    // The same sequences, each spelled out.
    const std::vector<std::vector<int64_t>> sequences = {part({{0, 12}}), part({{0, 8}, {12, 14}}), part({{14, 20}}),
                                                         part({{0, 7}})};
    PackedBatch plain;
    std::vector<Tensor> plain_ids, plain_positions;
    std::vector<int64_t> last;
    int64_t begin = 0;
    for (const auto& sequence : sequences) {
      const int64_t length = static_cast<int64_t>(sequence.size());
      plain_ids.push_back(chained.ids.index_select(0, at::tensor(sequence, at::kLong)));
      plain_positions.push_back(at::arange(length, at::kLong));
      plain.segments.push_back({begin, length, -1});
      begin += length;
      last.push_back(begin - 1);
    }
    plain.ids = at::cat(plain_ids);
    plain.positions = at::cat(plain_positions);
    plain.source = at::tensor(last, at::kLong);
    plain.target = chained.target;
    check_equal(run(*policy, chained), run(*policy, plain));
  }
}

TEST_CASE("Packed batches are what the header says", "[host]") {
  const std::vector<TokenId> prompt = {1, 2, 3}, a = {4, 5}, b = {6}, none;
  const std::vector<PackRow> rows = {{prompt, a}, {prompt, b}, {prompt, none}};
  const PackedBatch batch = pack_rows(rows);
  // Last tokens of completions predict nothing and are left out: prompt, then "4".
  CHECK(at::equal(batch.ids, at::tensor({1, 2, 3, 4}, at::kLong)));
  CHECK(at::equal(batch.positions, at::tensor({0, 1, 2, 3}, at::kLong)));
  CHECK(at::equal(batch.source, at::tensor({2, 3, 2}, at::kLong)));
  CHECK(at::equal(batch.target, at::tensor({4, 5, 6}, at::kLong)));
  REQUIRE(batch.segments.size() == 2);
  CHECK((batch.segments[1].begin == 3 && batch.segments[1].length == 1 && batch.segments[1].parent == 0));
  const std::vector<PackRow> empty_prompt = {{none, a}};
  CHECK_THROWS_AS(pack_rows(empty_prompt), CheckError);
}

TEST_CASE("A sequence longer than the context is an input error") {
  const auto policy = TransformerPolicy::init(parse_config(tiny_config()), 1, test_device(), at::kFloat);
  const std::vector<TokenId> prompt(100, 3), completion(30, 4);
  const std::vector<PackRow> rows = {{prompt, completion}};
  CHECK_THROWS_WITH(policy->evaluate(pack_rows(rows).to(test_device()), {}),
                    Catch::Contains("129 tokens") && Catch::Contains("context of 128"));
}

}  // namespace plural
