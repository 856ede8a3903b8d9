// SPDX-License-Identifier: Apache-2.0
#include "lib/train/mode_replay.h"

#include "lib/train/policy_update.h"
#include "plural/advantage.h"
#include "plural/error.h"
#include "tests/objectives/advantage_support.h"
#include "tests/support/temp_dir.h"

using namespace plural;
using Catch::Contains;
using plural::testing::Layout;
using plural::testing::make_sets;

namespace {

Completion ended(std::vector<TokenId> ids) {
  return {.ids = std::move(ids), .log_probs = {}, .finish = FinishReason::kStop, .text = ""};
}

// Sets as make_sets lays them out: a thinking token, then answers and confidences, then an end token.
std::vector<Completion> rows_of(const AnswerBatch& answers) {
  std::vector<Completion> rows;
  for (int64_t b = 0; b < answers.rows; ++b) {
    std::vector<TokenId> ids(static_cast<size_t>(answers.length[b].item<int64_t>()));
    for (size_t t = 0; t < ids.size(); ++t) ids[t] = 10 * b + static_cast<int64_t>(t);
    rows.push_back(ended(std::move(ids)));
  }
  return rows;
}

std::vector<std::vector<int64_t>> modes_of(const std::vector<const Exemplar*>& turn) {
  std::vector<std::vector<int64_t>> modes;
  for (const Exemplar* exemplar : turn) modes.push_back(exemplar->mode);
  return modes;
}

using Modes = std::vector<std::vector<int64_t>>;

}  // namespace

TEST_CASE("an exemplar is a completion with right answers; its wrong ones and its confidences are not trained on") {
  const std::vector<std::vector<int64_t>> match = {{2, 0}, {0, 2}, {1, 1}, {-1, 3}, {-1, -1}};
  const std::vector<std::vector<double>> q(5, {.5, .5});
  AnswerBatch answers = make_sets(match, Layout::kPairs, q);
  const std::vector<Completion> rows = rows_of(answers);
  // Tokens: think, answer, confidence, answer, confidence, end.
  const std::vector<Exemplar> all = find_exemplars(rows, answers, "all");
  REQUIRE(all.size() == 5);
  CHECK(all[0].mode == std::vector<int64_t>{0, 2});
  CHECK(all[1].mode == all[0].mode);  // order does not matter
  CHECK(all[0].ids == rows[0].ids);
  CHECK(all[0].num_answers == 2);
  CHECK(all[0].scored == std::vector<uint8_t>{1, 1, 0, 1, 0, 1});
  for (size_t b : {2, 3, 4}) CHECK(all[b].mode.empty());  // repeated, half wrong, wrong

  const std::vector<Exemplar> any = find_exemplars(rows, answers, "any");
  CHECK(any[2].mode == std::vector<int64_t>{1});
  CHECK(any[2].scored == std::vector<uint8_t>{1, 1, 0, 0, 0, 1});  // the repetition counts as wrong
  CHECK(any[3].mode == std::vector<int64_t>{3});
  CHECK(any[3].scored == std::vector<uint8_t>{1, 0, 0, 1, 0, 1});
  CHECK(any[4].mode.empty());

  // A prompt with one gold answer: all that can be hit is hit, though two were asked for.
  AnswerBatch scarce = make_sets({{0, -1}, {0, 0}, {-1, -1}}, Layout::kPairs, {{.5, .5}, {.5, .5}, {.5, .5}}, 1);
  const std::vector<Exemplar> one = find_exemplars(rows_of(scarce), scarce, "all");
  CHECK(one[0].mode == std::vector<int64_t>{0});
  CHECK(one[0].scored == std::vector<uint8_t>{1, 1, 0, 0, 0, 1});
  CHECK(one[1].mode == std::vector<int64_t>{0});
  CHECK(one[2].mode.empty());
  scarce.gold_count.zero_();  // nothing can be right
  CHECK(find_exemplars(rows_of(scarce), scarce, "all")[2].mode.empty());

  // Broken format, or cut off: not worth imitating.
  answers.format_ok[0].fill_(false);
  std::vector<Completion> cut = rows;
  cut[1].finish = FinishReason::kLength;
  const std::vector<Exemplar> bad = find_exemplars(cut, answers, "any");
  CHECK(bad[0].mode.empty());
  CHECK(bad[1].mode.empty());
}

TEST_CASE("every mode is kept once, the first ones found, and they are replayed in turn") {
  ModeReplay replay({.weight = .1, .max_modes = 3, .modes_per_step = 2}, 2);
  CHECK(replay.turn(0).empty());
  const AnswerBatch first = make_sets({{0}, {0}, {1}, {-1}, {2}, {3}, {0}});
  const std::vector<int64_t> examples = {0, 0, 0, 0, 0, 0, 1};
  CHECK(replay.finish_step(examples, rows_of(first), first) == 4);
  CHECK(replay.modes() == 4);  // 0, 1, 2 of example 0, which has no room for 3; 0 of example 1
  CHECK(modes_of(replay.turn(0)) == Modes{{0}, {1}});
  CHECK(modes_of(replay.turn(1)) == Modes{{0}});
  CHECK(replay.turn(0)[0]->ids == rows_of(first)[0].ids);  // the first exemplar stays

  const AnswerBatch again = make_sets({{0}, {-1}});
  const std::vector<int64_t> zero = {0, 0}, one = {1, 1};
  CHECK(replay.finish_step(zero, rows_of(again), again) == 0);
  CHECK(modes_of(replay.turn(0)) == Modes{{2}, {0}});
  CHECK(replay.finish_step(one, rows_of(again), again) == 0);  // 0 has not had its turn
  CHECK(modes_of(replay.turn(0)) == Modes{{2}, {0}});
  CHECK(replay.finish_step(zero, rows_of(again), again) == 0);
  CHECK(modes_of(replay.turn(0)) == Modes{{1}, {2}});

  TempDir dir;
  TrainState state;
  replay.add_state(state.memory);
  save_checkpoint(dir.path(), state);
  ModeReplay back({.weight = .1, .max_modes = 3, .modes_per_step = 2}, 2);
  const auto loaded = load_newest_checkpoint(dir.path());
  REQUIRE(loaded);
  back.restore(loaded->memory);
  for (int64_t example : {0, 1}) {
    CHECK(modes_of(back.turn(example)) == modes_of(replay.turn(example)));
    for (size_t i = 0; i < back.turn(example).size(); ++i) {
      CHECK(back.turn(example)[i]->ids == replay.turn(example)[i]->ids);
      CHECK(back.turn(example)[i]->scored == replay.turn(example)[i]->scored);
      CHECK(back.turn(example)[i]->num_answers == replay.turn(example)[i]->num_answers);
    }
  }
  ModeReplay smaller({.weight = .1}, 1);
  CHECK_THROWS_WITH(smaller.restore(loaded->memory), Contains("'replay.next'") && Contains("the data has 1"));
  back.restore({});
  CHECK(back.modes() == 0);
  CHECK_THROWS_WITH(ModeReplay({.verified = "some"}, 1), Contains("replay.verified"));
}

namespace {

// One softmax over answers of a single token each, whatever the prompt.
class TablePolicy final : public Policy {
 public:
  explicit TablePolicy(const Tensor& probability) : logits_(probability.log().requires_grad_(true)) {}
  PolicyOutput evaluate(const PackedBatch& batch, const EvaluateOptions& options) override {
    const Tensor log_p = (logits_ / options.temperature).log_softmax(0);
    PolicyOutput out;
    out.log_prob = log_p.index_select(0, batch.target);
    if (options.entropy) out.entropy = -(log_p.exp() * log_p).sum().expand({batch.predictions()});
    return out;
  }
  NamedTensors named_parameters() override { return {{"logits", logits_}}; }
  std::unique_ptr<Policy> frozen_copy() const override { return nullptr; }
  void save(const std::filesystem::path&) const override {}
  at::Device device() const override { return at::kCPU; }
  int64_t context_length() const override { return 8; }
  int64_t vocab_size() const override { return logits_.size(0); }
  Tensor probability() const { return logits_.detach().softmax(0); }

 private:
  Tensor logits_;
};

// Of ten answers the first three are right; the third is rare. Returns the chances after GRPO with a replay of weight
// `weight`.
Tensor learn(double weight) {
  constexpr int64_t kGroup = 64;
  at::manual_seed(4);
  std::vector<double> start = {.2, .1, .02};
  start.resize(10, .68 / 7);
  TablePolicy policy(at::tensor(start, at::kDouble));
  OptimizerOptions plain;  // a large eps and no memory: nearly gradient descent, so that rates of growth mean something
  plain.beta1 = 0, plain.beta2 = 0, plain.eps = 1;
  AdamW optimizer(policy.named_parameters(), plain);
  const auto objective = make_policy_gradient({});
  const auto grpo = builtin_advantages().make("grpo");
  ModeReplay replay({.weight = weight}, 1);
  const std::vector<TokenId> prompt = {0};
  const std::vector<float> sampler = {0};
  const std::vector<int64_t> examples(kGroup, 0);
  for (int step = 0; step < 400; ++step) {
    const Tensor drawn = at::multinomial(policy.probability(), kGroup, true);
    std::vector<std::vector<int64_t>> match;
    std::vector<Completion> completions;
    for (int64_t b = 0; b < kGroup; ++b) {
      const int64_t answer = drawn[b].item<int64_t>();
      match.push_back({answer < 3 ? answer : -1});
      completions.push_back(ended({answer}));
    }
    AnswerBatch answers = make_sets(match);
    answers.answer_span = at::tensor({0, 1}, at::kLong).view({1, 1, 2}).expand({kGroup, 1, 2});  // the only token
    AdvantageInput input;
    input.total = answers.match.ge(0).to(at::kDouble).view({-1});
    input.samples_per_prompt = kGroup;
    const Tensor advantage = grpo->estimate(input).row;
    std::vector<UpdateRow> rows;
    for (int64_t b = 0; b < kGroup; ++b)
      rows.push_back({{prompt, completions[static_cast<size_t>(b)].ids}, sampler, advantage[b].item<double>()});
    std::vector<LikelihoodRow> replayed;
    const auto turn = replay.turn(0);
    for (const Exemplar* exemplar : turn)
      replayed.push_back({{prompt, exemplar->ids}, {replay.weight() / static_cast<double>(turn.size())}});
    update_policy({policy, nullptr, *objective, optimizer}, rows, {.learning_rate = 1.0}, replayed);
    if (weight > 0) replay.finish_step(examples, completions, answers);
  }
  return policy.probability();
}

}  // namespace

TEST_CASE("replay keeps a rare right answer alive that GRPO loses") {
  const Tensor plain = learn(0), replayed = learn(.1);
  // Both get everything right. GRPO makes the frequent answer more frequent, and the rare one's share of the right
  // answers, .0625 at first, dwindles; replay ends near its optimum, all modes alike.
  for (const Tensor& p : {plain, replayed}) CHECK(p.narrow(0, 0, 3).sum().item<double>() > .95);
  CHECK(plain[2].item<double>() < .02);
  for (int64_t i = 0; i < 3; ++i) CHECK(replayed[i].item<double>() > .25);
}
