// SPDX-License-Identifier: Apache-2.0
// An update against its formula written out: row by row, no packing, log_softmax over the whole vocabulary, loops.
#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "lib/train/policy_update.h"
#include "plural/error.h"
#include "tests/train/train_support.h"

using namespace plural;

namespace {

struct TestRow {
  std::vector<TokenId> prompt, completion;
  double advantage;
};

// Rows of two prompts; one without an advantage, one without tokens.
const std::vector<TestRow> kRows = {{{1, 2, 3, 4}, {10, 20, 30}, 1.5},
                                    {{1, 2, 3, 4}, {11, 12, 13, 14, 15}, -0.5},
                                    {{1, 2, 3, 4}, {16, 17}, 0.0},
                                    {{200, 5}, {42, 43, 44, 45}, -1.0},
                                    {{200, 5}, {}, 0.75},
                                    {{200, 5}, {46}, 0.25}};

struct Settings {
  UpdateOptions update{
      .passes = 3, .max_batch_tokens = 12, .max_new_tokens = 7, .temperature = 0.6, .learning_rate = 5e-3};
  ObjectiveOptions objective;
};

// ln p of the row's completion under the temperature-scaled distribution, [T].
Tensor log_probs(TransformerPolicy& policy, const TestRow& row, double temperature) {
  std::vector<TokenId> ids = row.prompt;
  ids.insert(ids.end(), row.completion.begin(), row.completion.end());
  const std::vector<PackRow> whole = {{ids, {}}};
  const Tensor hidden = policy.hidden(pack_rows(whole).to(test_device()));
  const Tensor embedding = policy.named_parameters().front().second;  // tied: also the head
  const Tensor log_p = at::log_softmax(hidden.matmul(embedding.t()) / temperature, 1);
  std::vector<Tensor> picked;
  for (size_t t = 0; t < row.completion.size(); ++t)
    picked.push_back(log_p[static_cast<int64_t>(row.prompt.size() + t) - 1][row.completion[t]]);
  return at::stack(picked);
}

// Mean over all tokens of the batch of -min(ratio A, clip(ratio) A) + kl_weight k3, by loops over tokens.
Tensor written_out_loss(TransformerPolicy& policy, TransformerPolicy& reference, const Settings& settings,
                        std::vector<Tensor>& old) {
  const auto options = at::device(test_device()).dtype(at::kDouble);
  Tensor sum = at::zeros({}, options);
  double tokens = 0;
  for (size_t r = 0; r < kRows.size(); ++r) {
    const TestRow& row = kRows[r];
    tokens += static_cast<double>(row.completion.size());
    if (row.completion.empty()) continue;
    const Tensor now = log_probs(policy, row, settings.update.temperature);
    if (old.size() <= r) old.resize(r + 1);
    if (!old[r].defined()) old[r] = now.detach();
    const Tensor ref = log_probs(reference, row, settings.update.temperature).detach();
    for (int64_t t = 0; t < now.numel(); ++t) {
      const Tensor ratio = (now[t] - old[r][t]).exp();
      const double value = ratio.item<double>(), low = 1 - settings.objective.clip_low,
                   high = 1 + settings.objective.clip_high;
      const bool clipped = row.advantage >= 0 ? value > high : value < low;
      sum = sum - (clipped ? at::scalar_tensor(row.advantage * (row.advantage >= 0 ? high : low), options)
                           : ratio * row.advantage);
      const Tensor d = ref[t] - now[t];
      sum = sum + settings.objective.kl_weight * (d.exp() - d - 1);
    }
  }
  return sum / tokens;
}

// Two equal policies with an optimizer each: one takes the update, the other steps as the test writes it out.
struct Twins {
  std::unique_ptr<TransformerPolicy> policy, twin;
  AdamW optimizer, twin_optimizer;

  explicit Twins(const std::filesystem::path& dir)
      : policy(tiny_policy(dir, 3, test_device(), at::kDouble)),
        twin(tiny_policy(dir, 3, test_device(), at::kDouble)),
        optimizer(policy->named_parameters(), without_clipping()),
        twin_optimizer(twin->named_parameters(), without_clipping()) {}
  static OptimizerOptions without_clipping() {
    OptimizerOptions options;
    options.max_grad_norm = 0;
    return options;
  }
  void check_equal() const {
    const auto got = policy->named_parameters(), expected = twin->named_parameters();
    for (size_t i = 0; i < got.size(); ++i) {
      INFO(got[i].first);
      CHECK((got[i].second - expected[i].second).abs().max().item<double>() < 1e-9);
    }
  }
};

}  // namespace

TEST_CASE("an update of several passes equals its formula written out") {
  TempDir dir;
  write_tiny_model_files(dir.path());
  for (const double kl_weight : {0.0, 0.3}) {
    INFO("kl_weight " << kl_weight);
    Settings settings;
    settings.objective.kl_weight = kl_weight;
    settings.objective.clip_low = 0.02, settings.objective.clip_high = 0.03;  // bind in the second and third pass
    Twins twins(dir.path());
    const auto reference = tiny_policy(dir.path(), 4, test_device(), at::kDouble);
    const auto objective = make_policy_gradient(settings.objective);

    const std::vector<float> sampler(16, -1.0F);
    std::vector<UpdateRow> rows;
    for (const TestRow& row : kRows)
      rows.push_back({{row.prompt, row.completion}, std::span(sampler).first(row.completion.size()), row.advantage});
    const MetricMap metrics = update_policy({*twins.policy, reference.get(), *objective, twins.optimizer}, rows,
                                            settings.update);

    double loss = 0;
    std::vector<Tensor> old;
    for (int64_t pass = 0; pass < settings.update.passes; ++pass) {
      const Tensor value = written_out_loss(*twins.twin, *reference, settings, old);
      value.backward();
      loss += value.item<double>() / static_cast<double>(settings.update.passes);
      twins.twin_optimizer.step(settings.update.learning_rate);
    }
    CHECK(metrics.at("policy/clip_low") + metrics.at("policy/clip_high") > 0);
    CHECK(metrics.at("loss") == Approx(loss).epsilon(1e-9));
    twins.check_equal();
  }
}

TEST_CASE("rows of an older policy are compared with what that policy said") {
  TempDir dir;
  write_tiny_model_files(dir.path());
  Settings settings;
  settings.update.passes = 2;
  settings.objective.clip_low = 0.02, settings.objective.clip_high = 0.03;
  Twins twins(dir.path());
  const auto objective = make_policy_gradient(settings.objective);

  // Rows 0 and 3 are of a policy that thought a little otherwise: some of their ratios are clipped from the start.
  const std::vector<bool> older = {true, false, false, true, false, false};
  std::vector<std::vector<float>> sampler(kRows.size());
  std::vector<Tensor> old(kRows.size());
  std::vector<UpdateRow> rows;
  for (size_t r = 0; r < kRows.size(); ++r) {
    const auto count = kRows[r].completion.size();
    sampler[r].assign(count, -1.0F);
    if (older[r]) {
      const Tensor now = log_probs(*twins.twin, kRows[r], settings.update.temperature).detach();
      for (size_t t = 0; t < count; ++t)
        sampler[r][t] = static_cast<float>(now[static_cast<int64_t>(t)].item<double>() + .02 * (1.5 - double(t)));
      old[r] = at::tensor(sampler[r], at::kFloat).to(test_device(), at::kDouble);
    }
    UpdateRow row{{kRows[r].prompt, kRows[r].completion}, sampler[r], kRows[r].advantage};
    row.older_policy = older[r];
    rows.push_back(row);
  }
  const MetricMap metrics = update_policy({*twins.policy, nullptr, *objective, twins.optimizer}, rows, settings.update);

  double loss = 0;
  for (int64_t pass = 0; pass < settings.update.passes; ++pass) {
    const Tensor value = written_out_loss(*twins.twin, *twins.twin, settings, old);
    value.backward();
    loss += value.item<double>() / static_cast<double>(settings.update.passes);
    twins.twin_optimizer.step(settings.update.learning_rate);
  }
  CHECK(metrics.at("loss") == Approx(loss).epsilon(1e-9));
  twins.check_equal();
  // Sampler and trainer are compared on rows of this policy alone: there the sampler said -1 to everything.
  double diff = 0, count = 0;
  const auto fresh = tiny_policy(dir.path(), 3, test_device(), at::kDouble);
  for (const size_t r : {1u, 5u}) {
    diff += (log_probs(*fresh, kRows[r], settings.update.temperature) + 1).abs().sum().item<double>();
    count += static_cast<double>(kRows[r].completion.size());
  }
  CHECK(metrics.at("policy/sampler_trainer_diff") == Approx(diff / count));
}

TEST_CASE("likelihood rows add weight x -ln p of their tokens to every pass") {
  TempDir dir;
  write_tiny_model_files(dir.path());
  Settings settings;
  settings.update.passes = 2, settings.update.max_batch_tokens = 10;
  Twins twins(dir.path());
  const auto objective = make_policy_gradient(settings.objective);
  const std::vector<TestRow> kept = {{{1, 2, 3, 4}, {50, 51, 52}, 0}, {{9, 9, 9, 9, 9, 9}, {53, 54}, 0}};
  const std::vector<std::vector<double>> weight = {{.25, 0, .25}, {.05, .1}};
  std::vector<LikelihoodRow> likelihood;
  for (size_t r = 0; r < kept.size(); ++r) likelihood.push_back({{kept[r].prompt, kept[r].completion}, weight[r]});

  const std::vector<float> sampler(16, -1.0F);
  std::vector<UpdateRow> rows;
  for (const TestRow& row : kRows)
    rows.push_back({{row.prompt, row.completion}, std::span(sampler).first(row.completion.size()), row.advantage});
  const MetricMap metrics = update_policy({*twins.policy, nullptr, *objective, twins.optimizer}, rows, settings.update,
                                          likelihood);

  double loss = 0, nll = 0;
  std::vector<Tensor> old;
  for (int64_t pass = 0; pass < 2; ++pass) {
    Tensor value = written_out_loss(*twins.twin, *twins.twin, settings, old);
    for (size_t r = 0; r < kept.size(); ++r) {
      const Tensor log_prob = log_probs(*twins.twin, kept[r], settings.update.temperature);
      const Tensor of_tokens = at::tensor(weight[r], at::kDouble).to(test_device());
      value = value - (log_prob * of_tokens).sum();
      if (pass == 0) nll -= (log_prob * of_tokens.ne(0)).sum().item<double>() / 4;
    }
    value.backward();
    loss += value.item<double>() / 2;
    twins.twin_optimizer.step(settings.update.learning_rate);
  }
  CHECK(metrics.at("loss") == Approx(loss).epsilon(1e-9));
  CHECK(metrics.at("replay/nll") == Approx(nll).epsilon(1e-9));
  twins.check_equal();

  // They are learned from even when no other row is, masks or not.
  for (UpdateRow& row : rows) row.advantage = 0;
  const auto masking = make_policy_gradient({.top_entropy = .5});
  for (const Objective* each : {objective.get(), masking.get()}) {
    const MetricMap alone = update_policy({*twins.policy, nullptr, *each, twins.optimizer}, rows, settings.update,
                                          likelihood);
    CHECK(alone.at("optim/updates") == 2);
    CHECK(alone.at("policy/trained_tokens") == 0);
    CHECK(alone.at("replay/nll") < nll);
    CHECK(alone.count("policy/ratio") == 0);
  }
  likelihood[0].weight.pop_back();
  CHECK_THROWS_AS(
      update_policy({*twins.policy, nullptr, *objective, twins.optimizer}, rows, settings.update, likelihood),
      CheckError);
}
