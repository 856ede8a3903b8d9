// SPDX-License-Identifier: Apache-2.0
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "plural/error.h"
#include "plural/rollout.h"
#include "tests/support/catch.h"
#include "tests/support/device.h"
#include "tests/support/temp_dir.h"
#include "tests/support/tiny_model.h"

using namespace plural;
using Prompts = std::vector<std::vector<TokenId>>;

namespace {

/// The tiny byte model with weights large enough that its distributions are far from flat.
struct Model {
  TempDir dir;
  Tokenizer tokenizer;
  std::unique_ptr<TransformerPolicy> policy;
  std::unique_ptr<RolloutEngine> engine;

  explicit Model(int64_t context = 512, at::ScalarType dtype = at::kFloat)
      : tokenizer([&] {
          write_tiny_model_files(dir / "model", 32, context);
          return Tokenizer::load(dir / "model");
        }()),
        policy(tiny_policy(dir / "model", 3, test_device(), dtype)),
        engine(make_local_engine(*policy, tokenizer)) {
    const at::NoGradGuard no_grad;
    auto generator = at::make_generator<at::CPUGeneratorImpl>(11);
    for (auto& [name, tensor] : policy->named_parameters()) {
      tensor.add_(at::randn(tensor.sizes(), generator).to(tensor.device(), tensor.scalar_type()) * 0.2);
    }
  }

  Prompts prompts(const std::vector<std::string>& texts) const {
    Prompts out;
    for (const std::string& text : texts) out.push_back(tokenizer.encode(text));
    return out;
  }
};

/// The likeliest next tokens by whole forward passes: no cache, no batch, no sharing.
std::vector<TokenId> greedy_loop(TransformerPolicy& policy, std::vector<TokenId> ids, int64_t count) {
  const at::NoGradGuard no_grad;
  std::vector<TokenId> out;
  for (int64_t i = 0; i < count; ++i) {
    const PackedBatch batch = pack_rows(std::vector<PackRow>{{ids, {}}}).to(policy.device());
    const Tensor logits = policy.logits(policy.hidden(batch)[-1].unsqueeze(0));
    out.push_back(logits.argmax().item<int64_t>());
    ids.push_back(out.back());
    if (out.back() == 258) break;  // <|im_end|>
  }
  return out;
}

std::vector<std::vector<TokenId>> ids_of(const RolloutBatch& batch) {
  std::vector<std::vector<TokenId>> out;
  for (const Completion& row : batch.rows) out.push_back(row.ids);
  return out;
}

/// The policy's own log-probs of sampled tokens minus those that sampling reported, [tokens] float32.
Tensor log_prob_gap(const Model& model, const RolloutBatch& batch, double temperature = 1.0) {
  std::vector<PackRow> rows;
  std::vector<float> sampled;
  for (size_t r = 0; r < batch.rows.size(); ++r) {
    const Completion& row = batch.rows[r];
    REQUIRE(row.ids.size() == row.log_probs.size());
    rows.push_back({batch.prompts[r / static_cast<size_t>(batch.samples_per_prompt)], row.ids});
    sampled.insert(sampled.end(), row.log_probs.begin(), row.log_probs.end());
  }
  const at::NoGradGuard no_grad;
  const PackedBatch packed = pack_rows(rows).to(model.policy->device());
  return model.policy->evaluate(packed, {.temperature = temperature}).log_prob.cpu() - at::tensor(sampled);
}

SamplingOptions sampling(int64_t samples, int64_t tokens) {
  SamplingOptions options;
  options.samples_per_prompt = samples;
  options.max_new_tokens = tokens;
  return options;
}

const std::vector<std::string> kTexts = {"one", "a longer prompt, of another length", "z", "one", "the last of them"};

}  // namespace

TEST_CASE("greedy completions equal a loop of whole forward passes", "[engine]") {
  Model model;
  const Prompts prompts = model.prompts(kTexts);
  SamplingOptions options = sampling(2, 17);
  options.temperature = 0;
  for (const int64_t max_rows : {1, 3, 10, 64}) {
    INFO("max_rows " << max_rows);
    options.max_rows = max_rows;
    const RolloutBatch batch = model.engine->generate(prompts, options, {});
    CHECK(batch.prompts == prompts);
    REQUIRE(batch.rows.size() == 10);
    for (size_t p = 0; p < prompts.size(); ++p) {
      const std::vector<TokenId> expected = greedy_loop(*model.policy, prompts[p], 17);
      CHECK(batch.rows[2 * p].ids == expected);
      CHECK(batch.rows[2 * p + 1].ids == expected);
    }
  }
}

TEST_CASE("sampled rows depend on their own stream only", "[engine]") {
  Model model;
  const Prompts prompts = model.prompts(kTexts);
  SamplingOptions options = sampling(6, 25);
  const RolloutKey key{.seed = 5, .step = 9, .first_row = 100};
  const auto all = ids_of(model.engine->generate(prompts, options, key));
  SECTION("rows of a group differ, equal prompts too") {
    CHECK(all[0] != all[1]);
    CHECK(all[0] != all[18]);
  }
  SECTION("not on how many decode together") {
    for (const int64_t max_rows : {1, 4, 7}) {
      options.max_rows = max_rows;
      CHECK(ids_of(model.engine->generate(prompts, options, key)) == all);
    }
  }
  SECTION("not on the other prompts of the call") {
    const Prompts one = {prompts[2]};
    const auto rows = ids_of(model.engine->generate(one, options, {.seed = 5, .step = 9, .first_row = 112}));
    CHECK(rows == std::vector(all.begin() + 12, all.begin() + 18));
  }
  SECTION("but on seed and step") {
    CHECK(ids_of(model.engine->generate(prompts, options, {.seed = 6, .step = 9, .first_row = 100})) != all);
    CHECK(ids_of(model.engine->generate(prompts, options, {.seed = 5, .step = 8, .first_row = 100})) != all);
  }
}

TEST_CASE("log-probs of sampling equal the policy's", "[engine]") {
  Model model;
  SamplingOptions options = sampling(3, 20);
  options.temperature = 0.7;
  options.top_k = GENERATE(0, 12);  // filters change the draws, not what is reported
  options.max_rows = 5;
  const RolloutBatch batch = model.engine->generate(model.prompts(kTexts), options, {});
  CHECK(log_prob_gap(model, batch, 0.7).abs().max().item<float>() < 1e-4);
}

TEST_CASE("a stop string ends the text before it; the ids keep it", "[engine]") {
  Model model;
  const Prompts prompts = model.prompts({"stop me"});
  SamplingOptions options = sampling(1, 60);
  options.ignore_eos = true;
  const Completion whole = model.engine->generate(prompts, options, {.seed = 2}).rows[0];
  REQUIRE(whole.ids.size() == 60);
  REQUIRE(whole.finish == FinishReason::kLength);
  // One byte a token: every stop string of several bytes lies across tokens.
  const std::string stop = whole.text.substr(20, 3);
  const size_t place = whole.text.find(stop);
  options.stop = {"never to be seen in this text", stop};
  const Completion cut = model.engine->generate(prompts, options, {.seed = 2}).rows[0];
  CHECK(cut.finish == FinishReason::kStop);
  CHECK(cut.text == whole.text.substr(0, place));
  REQUIRE(cut.ids.size() < 60);
  CHECK(model.tokenizer.decode(cut.ids, true) == whole.text.substr(0, place + 3));
  CHECK(std::equal(cut.ids.begin(), cut.ids.end(), whole.ids.begin()));
}

TEST_CASE("end tokens", "[engine]") {
  Model model;
  const Prompts prompts = model.prompts({"end"});
  SamplingOptions options = sampling(8, 400);
  options.temperature = 3;
  SECTION("the model's own ends a row and is not in the text") {
    int ended = 0;
    for (const Completion& row : model.engine->generate(prompts, options, {}).rows) {
      const bool end = row.ids.back() == 258;
      ended += end;
      CHECK((row.finish == FinishReason::kStop) == end);
      CHECK(std::count(row.ids.begin(), row.ids.end(), 258) == (end ? 1 : 0));
      CHECK(row.text == model.tokenizer.decode(row.ids, true));
      CHECK(row.text.find("<|im_end|>") == std::string::npos);
    }
    CHECK(ended > 0);
  }
  SECTION("asked for") {
    const TokenId stop = model.engine->generate(prompts, options, {}).rows[0].ids[5];
    options.stop_ids = {stop};
    const Completion row = model.engine->generate(prompts, options, {}).rows[0];
    CHECK(row.ids.back() == stop);
    CHECK(row.ids.size() <= 6);
    CHECK(row.finish == FinishReason::kStop);
  }
  SECTION("ignored") {
    options.ignore_eos = true;
    options.max_new_tokens = 30;
    for (const Completion& row : model.engine->generate(prompts, options, {}).rows) CHECK(row.ids.size() == 30);
  }
}

TEST_CASE("the context bounds a completion", "[engine]") {
  Model model(/*context=*/40);
  const Prompts prompts = model.prompts({std::string(39, 'a'), std::string(30, 'b'), "c"});
  SamplingOptions options = sampling(1, 20);
  options.ignore_eos = true;
  const RolloutBatch batch = model.engine->generate(prompts, options, {});
  CHECK(batch.rows[0].ids.size() == 1);
  CHECK(batch.rows[1].ids.size() == 10);
  CHECK(batch.rows[2].ids.size() == 20);
  for (const Completion& row : batch.rows) CHECK(row.finish == FinishReason::kLength);
  CHECK(batch.generated_tokens() == 31);
}

TEST_CASE("rows leave the batch when they are done and others take their place", "[engine]") {
  Model model;
  const Prompts prompts = model.prompts(kTexts);
  SamplingOptions options = sampling(4, 50);
  options.temperature = 2;
  options.max_rows = 3;
  std::vector<int64_t> done, tokens;
  model.engine->set_progress([&](int64_t rows, int64_t all, int64_t total) {
    CHECK(all == 20);
    done.push_back(rows);
    tokens.push_back(total);
    return true;
  });
  const RolloutBatch batch = model.engine->generate(prompts, options, {.seed = 4});
  CHECK(std::is_sorted(done.begin(), done.end()));
  CHECK(done.back() == 20);
  CHECK(tokens.back() == batch.generated_tokens());
  // Three places that are never left empty: no more steps than a third of the tokens, but for the last rows.
  CHECK(static_cast<int64_t>(done.size()) <= batch.generated_tokens() / 3 + 50);
  int64_t before = 0;
  for (size_t i = 0; i < tokens.size(); ++i) {
    // At most one token a live row, and one more for each row that came in.
    CHECK(tokens[i] - before <= 6 + (done[i] - (i > 0 ? done[i - 1] : 0)));
    before = tokens[i];
  }
}

TEST_CASE("a progress callback that says no stops the generation", "[engine]") {
  Model model;
  int calls = 0;
  model.engine->set_progress([&](int64_t, int64_t, int64_t) { return ++calls < 3; });
  SamplingOptions options;
  options.ignore_eos = true;
  try {
    model.engine->generate(model.prompts(kTexts), options, {});
    FAIL("it went on");
  } catch (const Interrupted& error) {
    CHECK(error.exit_code() == 130);
    CHECK(calls == 3);
  }
  model.engine->set_progress({});
  CHECK(model.engine->generate(model.prompts({"a"}), options, {}).rows.size() == 1);
}

TEST_CASE("no prompts", "[engine]") {
  Model model;
  CHECK(model.engine->generate({}, {}, {}).rows.empty());
}

TEST_CASE("bad prompts and options say where and what to do", "[engine]") {
  struct Case {
    const char* name;
    std::function<void(Prompts&, SamplingOptions&)> spoil;
    std::vector<const char*> says;
  };
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const std::vector<Case> cases = {
      {"too long",
       [](Prompts& p, SamplingOptions&) { p[1] = std::vector<TokenId>(40, 65); },
       {"prompt 1 has 40 tokens", "holds 40", "shorten"}},
      {"empty", [](Prompts& p, SamplingOptions&) { p[0].clear(); }, {"prompt 0 has no tokens"}},
      {"another model's tokenizer",
       [](Prompts& p, SamplingOptions&) { p[1][0] = kTinyVocab; },
       {"prompt 1 holds token id 259", "does not fit the model"}},
      {"temperature", [&](Prompts&, SamplingOptions& o) { o.temperature = nan; }, {"temperature"}},
      {"top_k", [](Prompts&, SamplingOptions& o) { o.top_k = -1; }, {"top_k"}},
      {"top_p", [](Prompts&, SamplingOptions& o) { o.top_p = 1.01; }, {"top_p"}},
      {"min_p", [&](Prompts&, SamplingOptions& o) { o.min_p = nan; }, {"min_p"}},
      {"max_new_tokens", [](Prompts&, SamplingOptions& o) { o.max_new_tokens = 0; }, {"max_new_tokens"}},
      {"max_rows", [](Prompts&, SamplingOptions& o) { o.max_rows = 0; }, {"max_rows"}},
      {"no samples", [](Prompts&, SamplingOptions& o) { o.samples_per_prompt = 0; }, {"samples per prompt"}},
      {"stop", [](Prompts&, SamplingOptions& o) { o.stop = {""}; }, {"stop string is empty"}},
  };
  Model model(/*context=*/40);
  for (const Case& bad : cases) {
    INFO(bad.name);
    Prompts prompts = model.prompts({"fine", "fine"});
    SamplingOptions options;
    bad.spoil(prompts, options);
    std::string message;
    try {
      model.engine->generate(prompts, options, {});
    } catch (const InputError& error) {
      message = error.what();
    }
    for (const char* text : bad.says) CHECK_THAT(message, Catch::Contains(text));
  }
}

TEST_CASE("a diverged model is an error, not an endless stream of one token", "[engine]") {
  Model model;
  {
    const at::NoGradGuard no_grad;
    model.policy->named_parameters()[0].second.fill_(std::numeric_limits<float>::quiet_NaN());
  }
  CHECK_THROWS_AS(model.engine->generate(model.prompts({"a"}), {}, {}), DivergedError);
}

TEST_CASE("bfloat16 generates and agrees with the policy on average", "[engine]") {
  Model model(512, at::kBFloat16);
  const RolloutBatch batch = model.engine->generate(model.prompts(kTexts), sampling(4, 30), {});
  // A tiny model with large weights: coarser than a trained one, which is held to 0.01 by generation_parity_test.
  CHECK(log_prob_gap(model, batch).abs().mean().item<float>() < 0.05);
}

TEST_CASE("groups are reported once, complete, and change nothing") {
  Model model;
  const Prompts prompts = model.prompts(kTexts);
  SamplingOptions options;
  options.samples_per_prompt = 3;
  options.max_new_tokens = 12;
  options.max_rows = 4;  // groups finish one after the other
  const RolloutBatch plain = model.engine->generate(prompts, options, {1, 2, 0});

  std::vector<std::vector<std::vector<TokenId>>> seen(prompts.size());
  int64_t rows_done = 0, done_at_first_group = -1;
  model.engine->set_progress([&](int64_t done, int64_t, int64_t) {
    rows_done = done;
    return true;
  });
  model.engine->set_group_done([&](int64_t prompt, std::span<const Completion> rows) {
    if (done_at_first_group < 0) done_at_first_group = rows_done;
    REQUIRE(seen.at(static_cast<size_t>(prompt)).empty());
    for (const Completion& row : rows) seen[static_cast<size_t>(prompt)].push_back(row.ids);
  });
  const RolloutBatch reported = model.engine->generate(prompts, options, {1, 2, 0});
  CHECK(ids_of(reported) == ids_of(plain));
  for (size_t p = 0; p < prompts.size(); ++p) {
    REQUIRE(seen[p].size() == 3);
    for (size_t g = 0; g < 3; ++g) CHECK(seen[p][g] == reported.rows[3 * p + g].ids);
  }
  CHECK(done_at_first_group < 15);  // while others were still decoding
  model.engine->set_group_done({});
  CHECK(ids_of(model.engine->generate(prompts, options, {1, 2, 0})) == ids_of(plain));
}
