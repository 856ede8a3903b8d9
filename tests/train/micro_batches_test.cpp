// SPDX-License-Identifier: Apache-2.0
// The cut of a batch: where it falls, and that it changes nothing (promise 3).
#include <algorithm>
#include <cmath>
#include <numeric>

#include "lib/train/micro_batches.h"
#include "lib/train/policy_update.h"
#include "lib/train/token_entropy.h"
#include "tests/train/train_support.h"

using namespace plural;

namespace {

struct Rows {
  std::vector<std::vector<TokenId>> prompts, completions;
  std::vector<PackRow> packed() const {
    std::vector<PackRow> rows;
    for (size_t r = 0; r < prompts.size(); ++r) rows.push_back({prompts[r], completions[r]});
    return rows;
  }
};

std::vector<TokenId> random_ids(RandomStream& stream, int64_t n) {
  std::vector<TokenId> ids;
  for (int64_t i = 0; i < n; ++i) ids.push_back(static_cast<TokenId>(stream.below(256)));
  return ids;
}

// Groups of `group` rows with one prompt of `prompt` tokens; completions of the given lengths.
Rows make_rows(const std::vector<int64_t>& lengths, size_t group, int64_t prompt) {
  RandomStream stream(11, RandomPurpose::kUser);
  Rows rows;
  for (size_t r = 0; r < lengths.size(); ++r) {
    rows.prompts.push_back(r % group == 0 ? random_ids(stream, prompt) : rows.prompts.back());
    rows.completions.push_back(random_ids(stream, lengths[r]));
  }
  return rows;
}

std::vector<std::pair<int64_t, int64_t>> cut(const Rows& rows, int64_t budget) {
  std::vector<std::pair<int64_t, int64_t>> result;
  const auto packed = rows.packed();
  for (const Span& run : cut_rows(packed, budget)) result.emplace_back(run.begin, run.end);
  return result;
}

using Runs = std::vector<std::pair<int64_t, int64_t>>;

// The gradient of the whole batch by name, read from AdamW's first moment: (1 - beta1) g after one step.
struct Outcome {
  MetricMap metrics;
  NamedTensors gradients;
};

Outcome update(const std::filesystem::path& dir, const Rows& rows, const std::vector<double>& advantage,
               const std::vector<size_t>& order, int64_t budget, const ObjectiveOptions& objective_options,
               int64_t passes = 1, const std::vector<std::vector<double>>& token_advantage = {}) {
  const auto policy = tiny_policy(dir, 3, test_device(), at::kDouble);
  const auto reference = tiny_policy(dir, 4, test_device(), at::kDouble)->frozen_copy();
  const auto objective = make_policy_gradient(objective_options);
  OptimizerOptions options;
  options.max_grad_norm = 0;
  AdamW optimizer(policy->named_parameters(), options);
  const std::vector<float> sampler(64, -5.f);
  std::vector<UpdateRow> batch;
  for (size_t r : order) {
    batch.push_back(
        {{rows.prompts[r], rows.completions[r]}, std::span(sampler).first(rows.completions[r].size()), advantage[r]});
    if (!token_advantage.empty()) batch.back().token_advantage = token_advantage[r];
  }
  Outcome outcome;
  outcome.metrics = update_policy(
      {*policy, reference.get(), *objective, optimizer}, batch,
      {.passes = passes, .max_batch_tokens = budget, .max_new_tokens = 20, .temperature = .8, .learning_rate = 1e-3});
  for (const auto& [name, value] : optimizer.state())
    if (name.ends_with(".exp_avg")) outcome.gradients.emplace_back(name, value / (1 - options.beta1));
  return outcome;
}

void check_close(const Outcome& a, const Outcome& b, double tolerance) {
  REQUIRE(a.gradients.size() == b.gradients.size());
  double largest = 0;
  for (size_t i = 0; i < a.gradients.size(); ++i) {
    const Tensor &x = a.gradients[i].second, &y = b.gradients[i].second;
    largest = std::max(largest, y.abs().max().item<double>());
    INFO(a.gradients[i].first);
    CHECK((x - y).abs().max().item<double>() < tolerance);
  }
  CHECK(largest > 1e-3);  // there is a gradient to compare
  for (const auto& [name, value] : a.metrics) {
    INFO(name);
    CHECK(b.metrics.at(name) == Approx(value).epsilon(1e-9).margin(1e-12));
  }
}

}  // namespace

TEST_CASE("rows are cut by packed tokens, groups kept together", "[host]") {
  const Rows rows = make_rows({4, 4, 4, 4, 4, 4}, 2, 10);  // three groups of 10 + 4 + 4 = 18 packed tokens
  CHECK(cut(rows, 54) == Runs{{0, 6}});
  CHECK(cut(rows, 53) == Runs{{0, 4}, {4, 6}});
  CHECK(cut(rows, 35) == Runs{{0, 2}, {2, 4}, {4, 6}});
  CHECK(cut(rows, 18) == Runs{{0, 2}, {2, 4}, {4, 6}});
  // A group that fits nowhere is cut; a row that fits nowhere goes alone.
  CHECK(cut(rows, 17) == Runs{{0, 1}, {1, 2}, {2, 3}, {3, 4}, {4, 5}, {5, 6}});
  CHECK(cut(rows, 1) == Runs{{0, 1}, {1, 2}, {2, 3}, {3, 4}, {4, 5}, {5, 6}});
  CHECK(cut(Rows{}, 10).empty());
}

TEST_CASE("a group that is cut keeps to the budget and covers every row once", "[host]") {
  const Rows rows = make_rows({3, 9, 2, 7, 1, 5, 5, 5, 8, 2}, 5, 6);
  const auto packed = rows.packed();
  for (int64_t budget = 1; budget < 80; ++budget) {
    int64_t next = 0;
    for (const auto& [begin, end] : cut(rows, budget)) {
      CHECK(begin == next);
      next = end;
      const auto part = std::span(packed).subspan(begin, end - begin);
      const int64_t tokens = pack_rows(part).tokens();
      INFO("budget " << budget << " run " << begin << ".." << end << " of " << tokens);
      CHECK((tokens <= budget || end - begin == 1));
    }
    CHECK(next == 10);
  }
}

TEST_CASE("a packed run knows which row owns each prediction", "[host]") {
  const Rows rows = make_rows({2, 0, 3}, 3, 4);
  const auto packed = rows.packed();
  const MicroBatch micro = pack_micro_batch(packed, {0, 3}, at::kCPU);
  CHECK(at::equal(micro.row, at::tensor({0, 0, 2, 2, 2}, at::kLong)));
  CHECK(at::equal(micro.row_tokens, at::tensor({2.f, 0.f, 3.f})));
  CHECK(micro.batch.predictions() == 5);
  CHECK(micro.batch.tokens() <= 4 + 5);  // the prompt once
}

TEST_CASE("the gradient does not depend on the cut, on prompt sharing or on the order of rows") {
  TempDir dir;
  write_tiny_model_files(dir.path());
  const Rows rows = make_rows({3, 9, 2, 7, 1, 5, 5, 8}, 4, 6);
  const std::vector<double> advantage = {.5, -.25, 0, 1, -1, .75, .3, -.6};
  std::vector<size_t> straight(8), mixed = {0, 4, 1, 5, 2, 6, 3, 7};  // mixed: no neighbours with one prompt
  std::iota(straight.begin(), straight.end(), 0u);
  for (const char* aggregation : {"dapo", "grpo", "dr_grpo", "bnpo"})
    for (double kl : {0.0, .2}) {
      INFO(aggregation << " kl " << kl);
      ObjectiveOptions objective;
      objective.aggregation = aggregation, objective.kl_weight = kl;
      const Outcome whole = update(dir.path(), rows, advantage, straight, 1000, objective);
      check_close(update(dir.path(), rows, advantage, straight, 30, objective), whole, 1e-10);
      check_close(update(dir.path(), rows, advantage, straight, 1, objective), whole, 1e-10);
      check_close(update(dir.path(), rows, advantage, mixed, 25, objective), whole, 1e-10);
    }
}

TEST_CASE("later passes compare with the log-probs of the first") {
  TempDir dir;
  write_tiny_model_files(dir.path());
  const Rows rows = make_rows({3, 9, 2, 7}, 4, 6);
  const std::vector<double> advantage = {.5, -.25, -.75, .5};
  const std::vector<size_t> order = {0, 1, 2, 3};
  const Outcome one = update(dir.path(), rows, advantage, order, 1000, {}, 1);
  CHECK(one.metrics.at("policy/ratio") == 1.0);
  CHECK(one.metrics.at("policy/kl_old") == 0.0);
  const Outcome three = update(dir.path(), rows, advantage, order, 1000, {}, 3);
  CHECK(three.metrics.at("policy/kl_old") > 1e-7);
  CHECK(three.metrics.at("optim/updates") == 3);
  // The cut matters in no pass.
  check_close(update(dir.path(), rows, advantage, order, 1, {}, 3), three, 1e-10);
}

TEST_CASE("no ratio, surrogate, mask or term depends on the cut") {
  TempDir dir;
  write_tiny_model_files(dir.path());
  const Rows rows = make_rows({3, 9, 2, 7, 1, 5, 5, 8}, 4, 6);
  const std::vector<double> advantage = {.5, -.25, 0, 1, -1, .75, .3, -.6};
  const std::vector<size_t> straight = {0, 1, 2, 3, 4, 5, 6, 7}, mixed = {0, 4, 1, 5, 2, 6, 3, 7};
  const std::vector<ObjectiveOptions> all = {
      {.ratio = "sequence", .aggregation = "luspo"},
      {.ratio = "sequence_token", .aggregation = "grpo"},
      {.surrogate = "cispo"},
      {.surrogate = "sapo", .aggregation = "grpo"},
      {.surrogate = "gmpo", .aggregation = "grpo", .clip_low = .4, .clip_high = .4},
      {.surrogate = "dppo_tv"},
      {.surrogate = "vespo"},
      {.kl_weight = .2, .kl_times_ratio = true},
      {.entropy_weight = .1},
      {.importance = "sequence", .importance_cap = 20},
      {.aggregation = "grpo", .importance = "token", .importance_mode = "mask", .importance_cap = .7},
      {.off_policy_threshold = .4},
      {.aggregation = "grpo", .top_entropy = .5},
      {.aggregation = "dr_grpo", .entropy_weight = .1, .importance = "token", .top_entropy = .6}};
  for (const ObjectiveOptions& options : all) {
    INFO(make_policy_gradient(options)->name() << " mask " << make_policy_gradient(options)->needs().token_mask);
    const Outcome whole = update(dir.path(), rows, advantage, straight, 1000, options, 2);
    check_close(update(dir.path(), rows, advantage, straight, 30, options, 2), whole, 1e-10);
    check_close(update(dir.path(), rows, advantage, mixed, 1, options, 2), whole, 1e-10);
  }
}

TEST_CASE("tokens that are masked are gone from the normalisers") {
  TempDir dir;
  write_tiny_model_files(dir.path());
  const Rows rows = make_rows({3, 9, 2, 7}, 4, 6);
  const std::vector<double> advantage = {.5, -.25, 0, .75};  // the row of zero advantage is looked at, too
  const Outcome half = update(dir.path(), rows, advantage, {0, 1, 2, 3}, 1000, {.top_entropy = .5});
  CHECK(half.metrics.at("policy/counted_tokens") == Approx(.5).margin(.03));
  // On-policy the loss is -sum of A over the counted tokens / their number: never beyond the largest |A|.
  CHECK(std::abs(half.metrics.at("loss")) < .75);
  // The sampler's -5 is above the policy's ln 1/259, so every row that is pushed down goes: nothing is left to learn
  // from.
  const Outcome none = update(dir.path(), rows, {-.5, -.25, 0, -.75}, {0, 1, 2, 3}, 1000,
                              {.off_policy_threshold = .01});
  CHECK(none.metrics.at("optim/updates") == 0);
  CHECK(half.metrics.at("optim/updates") == 1);
}

TEST_CASE("a row whose tokens have one advantage is a row with that advantage") {
  TempDir dir;
  write_tiny_model_files(dir.path());
  const Rows rows = make_rows({3, 9, 2, 7}, 4, 6);
  const std::vector<double> advantage = {.5, -.25, 0, .75};
  std::vector<std::vector<double>> tokens;
  for (size_t r = 0; r < 4; ++r) tokens.emplace_back(rows.completions[r].size(), advantage[r]);
  const Outcome by_row = update(dir.path(), rows, advantage, {0, 1, 2, 3}, 1000, {});
  check_close(update(dir.path(), rows, {9, 9, 9, 9}, {0, 1, 2, 3}, 1000, {}, 1, tokens), by_row, 1e-12);
  CHECK(by_row.metrics.at("policy/trained_tokens") == 3 + 9 + 7);
  // Different ones add up token by token: the gradient is linear in them.
  auto first = tokens, second = tokens;
  for (size_t t = 0; t < 9; ++t) (t < 4 ? second : first)[1][t] = 0;
  for (auto* part : {&first, &second})
    for (size_t r : {0u, 3u}) std::fill((*part)[r].begin(), (*part)[r].end(), part == &first ? advantage[r] : 0.0);
  const Outcome a = update(dir.path(), rows, advantage, {0, 1, 2, 3}, 1000, {}, 1, first);
  const Outcome b = update(dir.path(), rows, advantage, {0, 1, 2, 3}, 1000, {}, 1, second);
  for (size_t i = 0; i < a.gradients.size(); ++i)
    CHECK((a.gradients[i].second + b.gradients[i].second - by_row.gradients[i].second).abs().max().item<double>() <
          1e-12);
}

TEST_CASE("token entropies are those of the whole vocabulary, each in its place however the rows are cut") {
  TempDir dir;
  write_tiny_model_files(dir.path());
  const auto policy = tiny_policy(dir.path(), 3, test_device(), at::kDouble);
  const Rows rows = make_rows({3, 0, 1, 5, 2, 4}, 2, 6);
  const auto packed = rows.packed();
  const double temperature = 0.7;
  const Tensor entropy = token_entropy(*policy, packed, temperature, 1000);
  REQUIRE(entropy.sizes() == at::IntArrayRef({6, 5}));
  CHECK_FALSE(entropy.requires_grad());
  for (const int64_t budget : {1, 9, 20})
    CHECK(at::allclose(entropy, token_entropy(*policy, packed, temperature, budget), 0, 1e-6));
  for (size_t r = 0; r < packed.size(); ++r) {
    const std::vector<TokenId>& ids = rows.completions[r];
    for (size_t t = 0; t < 5; ++t) {
      double expected = 0;  // past the end; else over every token that could have stood there
      if (t < ids.size()) {
        const std::vector<TokenId> prefix(ids.begin(), ids.begin() + static_cast<int64_t>(t));
        std::vector<std::vector<TokenId>> others(kTinyVocab, prefix);
        std::vector<PackRow> variants;
        for (size_t v = 0; v < others.size(); ++v) {
          others[v].push_back(static_cast<TokenId>(v));
          variants.push_back({rows.prompts[r], others[v]});
        }
        const Tensor log_p = policy->evaluate(pack_rows(variants).to(test_device()), {temperature, false})
                                 .log_prob.view({kTinyVocab, -1});
        const Tensor last = log_p.select(1, -1);
        CHECK(last.exp().sum().item<double>() == Approx(1));
        expected = -(last.exp() * last).sum().item<double>();
      }
      INFO("row " << r << " token " << t);
      CHECK(entropy[static_cast<int64_t>(r)][static_cast<int64_t>(t)].item<double>() == Approx(expected).margin(1e-6));
    }
  }
}
