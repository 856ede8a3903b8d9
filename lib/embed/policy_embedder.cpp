// SPDX-License-Identifier: Apache-2.0
#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "lib/embed/embedders.h"
#include "lib/embed/remembering_embedder.h"
#include "plural/error.h"
#include "plural/policy.h"

namespace plural {
namespace {

/// Texts whose vectors are kept within a step.
constexpr size_t kRemembered = 16'384;
/// Tokens of one forward pass.
constexpr size_t kBatchTokens = 8192;

class PolicyEmbedder final : public Embedder {
 public:
  PolicyEmbedder(Policy& policy, const Tokenizer& tokenizer) : policy_(policy), tokenizer_(tokenizer) {}
  std::string name() const override { return "policy"; }

  Tensor embed(std::span<const std::string_view> texts, at::Device device) const override {
    const at::NoGradGuard no_grad;
    std::vector<Tensor> parts;
    std::vector<std::vector<TokenId>> batch;
    size_t tokens = 0;
    const auto run = [&] {
      parts.push_back(embed_ids(batch).to(device));
      batch.clear();
      tokens = 0;
    };
    for (const std::string_view text : texts) {
      batch.push_back(ids_of(text));
      tokens += batch.back().size();
      if (tokens >= kBatchTokens) run();
    }
    if (!batch.empty() || parts.empty()) run();
    return at::cat(parts);
  }

 private:
  std::vector<TokenId> ids_of(std::string_view text) const {
    std::vector<TokenId> ids = tokenizer_.encode(text);
    if (const auto start = tokenizer_.bos_id(); start && !ids.empty()) ids.insert(ids.begin(), *start);
    if (const auto limit = static_cast<size_t>(policy_.context_length()); ids.size() > limit) ids.resize(limit);
    return ids;
  }

  /// [texts, E] float32 on the policy's device.
  Tensor embed_ids(const std::vector<std::vector<TokenId>>& texts) const {
    // A text without tokens is run as a single token that no text owns: the batch may not be empty.
    const TokenId filler[] = {0};
    std::vector<PackRow> rows;
    std::vector<int64_t> source, owner;  // packed tokens that count, and their texts
    int64_t place = 0;
    for (size_t i = 0; i < texts.size(); ++i) {
      const std::span<const TokenId> ids = texts[i].empty() ? std::span<const TokenId>(filler) : std::span(texts[i]);
      rows.push_back({ids, {}});
      // The start token is there for the first word's sake and is no part of the text.
      const size_t first = texts[i].empty() ? 1 : tokenizer_.bos_id().has_value() ? 1 : 0;
      for (size_t t = first; t < ids.size(); ++t) {
        source.push_back(place + static_cast<int64_t>(t));
        owner.push_back(static_cast<int64_t>(i));
      }
      place += static_cast<int64_t>(ids.size());
    }
    if (rows.empty()) rows.push_back({filler, {}});
    const Tensor states = policy_.hidden(pack_rows(rows, /*share_prompts=*/false).to(policy_.device()));
    if (!states.defined())
      throw InputError(
          "embedder 'policy': this policy has no hidden states to give; name another embedder (char_ngrams, minilm)");
    const auto index = [&](const std::vector<int64_t>& values) {
      return at::tensor(values, at::kLong).to(states.device());
    };
    // The sum has the direction of the mean.
    Tensor sums = at::zeros({static_cast<int64_t>(texts.size()), states.size(1)}, states.options().dtype(at::kFloat));
    if (!owner.empty()) sums.index_add_(0, index(owner), states.index_select(0, index(source)).to(at::kFloat));
    return sums / sums.norm(2, 1, true).clamp_min(1e-12);
  }

  Policy& policy_;
  const Tokenizer& tokenizer_;
};

}  // namespace

std::unique_ptr<Embedder> make_policy_embedder(Policy& policy, const Tokenizer& tokenizer) {
  return std::make_unique<RememberingEmbedder>(std::make_unique<PolicyEmbedder>(policy, tokenizer), kRemembered);
}

void add_policy_embedder(Registry<Embedder>& registry) {
  registry.add("policy", "likeness in the hidden states of the model that is trained", [](const ConfigNode& node) {
    ConfigReader(node, "embedder").finish();  // no options
    return std::unique_ptr<Embedder>();
  });
}

}  // namespace plural
