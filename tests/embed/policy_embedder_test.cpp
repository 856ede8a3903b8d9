// SPDX-License-Identifier: Apache-2.0
#include <ATen/core/grad_mode.h>

#include "lib/embed/remembering_embedder.h"
#include "plural/embedder.h"
#include "plural/error.h"
#include "tests/support/catch.h"
#include "tests/support/device.h"
#include "tests/support/temp_dir.h"
#include "tests/support/tiny_model.h"

namespace plural {
namespace {

using Texts = std::vector<std::string_view>;

/// Mean final state of the bytes of `text` after the start token, one text in the batch, divided by its length.
Tensor by_hand(TransformerPolicy& policy, const Tokenizer& tokenizer, const std::string& text) {
  const at::NoGradGuard no_grad;
  std::vector<TokenId> ids = {*tokenizer.bos_id()};
  for (const char c : text) ids.push_back(static_cast<unsigned char>(c));  // the tiny tokenizer's ids are bytes
  PackedBatch batch;
  batch.ids = at::tensor(ids, at::kLong);
  batch.positions = at::arange(static_cast<int64_t>(ids.size()), at::kLong);
  batch.segments = {{0, static_cast<int64_t>(ids.size()), -1}};
  const Tensor mean = policy.hidden(batch.to(test_device())).slice(0, 1).mean(0).to(at::kFloat);
  return (mean / mean.norm()).cpu();
}

TEST_CASE("policy embeds a text as the mean of its tokens' final states") {
  const TempDir dir;
  write_tiny_model_files(dir.path(), 32, 24);
  const auto policy = tiny_policy(dir.path(), 3, test_device());
  const Tokenizer tokenizer = Tokenizer::load(dir.path());
  const auto embedder = make_policy_embedder(*policy, tokenizer);
  CHECK(embedder->name() == "policy");
  const Tensor found = embedder->embed(Texts{"cat", "", "dogs and cats", "cat"}, test_device()).cpu();
  REQUIRE(found.sizes() == at::IntArrayRef({4, 32}));
  CHECK(found.scalar_type() == at::kFloat);
  CHECK_FALSE(found.requires_grad());
  CHECK(at::allclose(found[0], by_hand(*policy, tokenizer, "cat"), 0, 1e-5));
  CHECK(at::allclose(found[2], by_hand(*policy, tokenizer, "dogs and cats"), 0, 1e-5));
  CHECK(at::equal(found[0], found[3]));
  CHECK(found[1].abs().max().item<double>() == 0);
  CHECK(embedder->embed({}, test_device()).sizes() == at::IntArrayRef({0, 32}));
  // What does not fit the context falls away: 24 tokens are the start token and 23 bytes.
  const std::string longer(40, 'x');
  CHECK(at::allclose(embedder->embed(Texts{longer}, test_device()).cpu()[0],
                     by_hand(*policy, tokenizer, longer.substr(0, 23)), 0, 1e-5));
}

TEST_CASE("policy embeds many texts in several passes") {
  const TempDir dir;
  write_tiny_model_files(dir.path());
  const auto policy = tiny_policy(dir.path(), 3, test_device());
  const Tokenizer tokenizer = Tokenizer::load(dir.path());
  std::vector<std::string> texts;
  for (int i = 0; i < 300; ++i) texts.push_back(std::string(60, static_cast<char>('a' + i % 26)) + std::to_string(i));
  const Tensor
      found = make_policy_embedder(*policy, tokenizer)->embed(Texts(texts.begin(), texts.end()), test_device()).cpu();
  for (const size_t i : {size_t{0}, size_t{131}, size_t{299}})
    CHECK(at::allclose(found[static_cast<int64_t>(i)], by_hand(*policy, tokenizer, texts[i]), 0, 1e-5));
}

TEST_CASE("a policy without hidden states cannot embed") {
  class Opaque final : public Policy {
   public:
    PolicyOutput evaluate(const PackedBatch&, const EvaluateOptions&) override { return {}; }
    NamedTensors named_parameters() override { return {}; }
    std::unique_ptr<Policy> frozen_copy() const override { return nullptr; }
    void save(const std::filesystem::path&) const override {}
    at::Device device() const override { return at::kCPU; }
    int64_t context_length() const override { return 16; }
    int64_t vocab_size() const override { return kTinyVocab; }
  };
  const TempDir dir;
  write_tiny_model_files(dir.path());
  const Tokenizer tokenizer = Tokenizer::load(dir.path());
  Opaque policy;
  CHECK_THROWS_WITH(make_policy_embedder(policy, tokenizer)->embed(Texts{"cat"}, at::kCPU),
                    Catch::Contains("no hidden states"));
}

TEST_CASE("a remembering embedder asks once for each text, and forgets when it is full") {
  /// Lengths as vectors; counts the texts it was asked for.
  class Lengths final : public Embedder {
   public:
    explicit Lengths(int64_t& asked) : asked_(asked) {}
    std::string name() const override { return "lengths"; }
    Tensor embed(std::span<const std::string_view> texts, at::Device device) const override {
      std::vector<float> sizes;
      for (const std::string_view text : texts) sizes.push_back(static_cast<float>(text.size()));
      asked_ += static_cast<int64_t>(texts.size());
      return at::tensor(sizes, at::kFloat).unsqueeze(1).to(device);
    }

   private:
    int64_t& asked_;
  };
  int64_t asked = 0;
  const RememberingEmbedder embedder(std::make_unique<Lengths>(asked), 4);
  const auto lengths = [&](const Texts& texts) {
    const Tensor found = embedder.embed(texts, test_device()).cpu().flatten();
    return std::vector<float>(found.const_data_ptr<float>(), found.const_data_ptr<float>() + found.numel());
  };
  CHECK(lengths({"a", "bb", "a"}) == std::vector<float>{1, 2, 1});
  CHECK(asked == 2);
  CHECK(lengths({"bb", "ccc"}) == std::vector<float>{2, 3});
  CHECK(asked == 3);
  CHECK(lengths({}).empty());
  CHECK(asked == 3);
  CHECK(lengths({"dddd", "eeeee", "a"}) == std::vector<float>{4, 5, 1});  // 5 texts would be more than 4
  CHECK(asked == 6);
  CHECK(lengths({"a", "eeeee"}) == std::vector<float>{1, 5});
  CHECK(asked == 6);
  // More texts at once than it may keep are answered all the same.
  CHECK(lengths({"1", "22", "333", "4444", "55555", "666666"}) == std::vector<float>{1, 2, 3, 4, 5, 6});
}

}  // namespace
}  // namespace plural
