// SPDX-License-Identifier: Apache-2.0
#include "lib/train/prompt_source.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <set>

#include "plural/dataset.h"
#include "plural/error.h"
#include "plural/rng.h"
#include "tests/support/catch.h"
#include "tests/support/temp_dir.h"

using namespace plural;
using Catch::Contains;

namespace {

PromptSourceOptions by_pass_rate(int64_t examples, const CurriculumOptions& curriculum = {.measure = "coverage"}) {
  return {.examples = examples, .samples_per_prompt = 2, .curriculum = curriculum, .seed = 3};
}

// A source that has seen the examples 0, 1, ... with these pass rates.
PromptSource after(PromptSourceOptions options, const std::vector<double>& rates) {
  PromptSource source(std::move(options));
  PromptUse use;
  for (size_t i = 0; i < rates.size(); ++i) use.pass_rates.emplace_back(static_cast<int64_t>(i), rates[i]);
  source.finish_step(0, use);
  return source;
}

std::vector<int64_t> examples_of(const std::vector<PromptDraw>& draws) {
  std::vector<int64_t> examples;
  for (const PromptDraw& draw : draws) examples.push_back(draw.example);
  return examples;
}

SampledGroup group_of(int64_t example, int64_t step) {
  SampledGroup group{example, 2, step, {1, 2, 3 + example}, {}};
  group.rows = {{.ids = {7, 8}, .log_probs = {-.5F, -1.25F}, .finish = FinishReason::kStop, .text = "a\xff"},
                {.ids = {}, .log_probs = {}, .finish = FinishReason::kLength, .text = ""}};
  return group;
}

}  // namespace

TEST_CASE("without a curriculum prompts come in the data's order, each with a K of its own") {
  PromptSource source({.examples = 5, .num_answers = {1, 2, 3}, .seed = 9});
  DataOrder order(5, 9);
  int64_t position = 0;
  std::set<int64_t> k;
  for (int64_t step = 0; step < 8; ++step) {
    const std::vector<PromptDraw> all = source.draw(step, 0, 4), rest = source.draw(step, 1, 3);
    for (int64_t n = 0; n < 4; ++n) {
      const auto i = static_cast<size_t>(n);
      CHECK(all[i].example == order.at(position + n).example);
      if (n > 0) CHECK(rest[i - 1].example == all[i].example);
      if (n > 0) CHECK(rest[i - 1].num_answers == all[i].num_answers);
      k.insert(all[i].num_answers);
    }
    source.finish_step(step, {.drawn = 4});
    position += 4;
  }
  CHECK(source.position() == position);
  CHECK(k == std::set<int64_t>{1, 2, 3});
  CHECK(source.metrics().empty());
}

TEST_CASE("chances fall with the distance from the target, down to a floor") {
  const PromptSource source = after(by_pass_rate(5), {0, .25, .5, .75, 1});
  CHECK(source.chance(2) == 1.0);
  CHECK(source.chance(1) == Approx(std::exp(-.5 * 1.25 * 1.25)));
  CHECK(source.chance(3) == source.chance(1));
  CHECK(source.chance(0) == .05);  // exp(-.5 * 2.5^2) = .0439
  const PromptSource hard = after(by_pass_rate(2, {.measure = "coverage", .target = .25, .width = .1, .floor = 0}),
                                  {.25, 1});
  CHECK(hard.chance(0) == 1.0);
  CHECK(hard.chance(1) == Approx(std::exp(-.5 * 7.5 * 7.5)));
  CHECK(source.metrics().at("curriculum/seen") == 1.0);
  CHECK(source.metrics().at("curriculum/pass_rate") == .5);
}

TEST_CASE("the pass rate of a prompt is a running mean of what it reached") {
  // Target .5, so that a chance tells the distance of the rate from it.
  const auto chance_at = [](double rate) { return std::exp(-.5 * (rate - .5) * (rate - .5) / .04); };
  PromptSource source = after(by_pass_rate(1, {.measure = "coverage", .floor = 0, .decay = .75}), {1});
  CHECK(source.chance(0) == Approx(chance_at(1)));
  source.finish_step(1, {.pass_rates = {{0, 0}}});
  CHECK(source.chance(0) == Approx(chance_at(.75)));
  source.finish_step(2, {.pass_rates = {{0, .5}, {0, 0}}});  // drawn twice: .6875, then .515625
  CHECK(source.chance(0) == Approx(chance_at(.515625)));
  PromptSource last = after(by_pass_rate(1, {.measure = "coverage", .floor = 0, .decay = 0}), {1});
  last.finish_step(1, {.pass_rates = {{0, .25}}});
  CHECK(last.chance(0) == Approx(chance_at(.25)));
}

TEST_CASE("prompts are drawn in proportion to their chances, without replacement") {
  const PromptSource source = after(by_pass_rate(5), {0, .25, .5, .75, 1});
  constexpr int kSteps = 20000;
  double sum = 0;
  for (int64_t i = 0; i < 5; ++i) sum += source.chance(i);
  std::map<int64_t, int> first, second_after_2;
  int twos = 0;
  for (int64_t step = 1; step <= kSteps; ++step) {
    const std::vector<int64_t> drawn = examples_of(source.draw(step, 0, 5));
    REQUIRE(std::set<int64_t>(drawn.begin(), drawn.end()).size() == 5);
    ++first[drawn[0]];
    if (drawn[0] == 2) ++twos, ++second_after_2[drawn[1]];
  }
  for (int64_t i = 0; i < 5; ++i) {  // within four standard deviations
    const double p = source.chance(i) / sum, q = source.chance(i) / (sum - 1);
    CHECK(first[i] / double(kSteps) == Approx(p).margin(4 * std::sqrt(p * (1 - p) / kSteps)));
    if (i != 2) CHECK(second_after_2[i] / double(twos) == Approx(q).margin(4 * std::sqrt(q * (1 - q) / twos)));
  }
  // A pure function of the seed, the step and what was reported; rounds of a step go on where the last one ended.
  const PromptSource twin = after(by_pass_rate(5), {0, .25, .5, .75, 1});
  std::vector<int64_t> rounds = examples_of(twin.draw(7, 0, 2));
  for (int64_t example : examples_of(twin.draw(7, 2, 5))) rounds.push_back(example);
  const std::vector<int64_t> whole = examples_of(source.draw(7, 0, 7));
  CHECK(rounds == whole);
  CHECK(whole[5] == whole[0]);  // more prompts than there are
  CHECK(examples_of(source.draw(8, 0, 5)) != examples_of(source.draw(7, 0, 5)));
}

TEST_CASE("prompts not sampled yet come first, or with the mean chance of the others") {
  PromptSource first = after(by_pass_rate(6), {.5, .5});
  std::vector<int64_t> drawn = examples_of(first.draw(1, 0, 6));
  CHECK(std::set<int64_t>(drawn.begin(), drawn.begin() + 4) == std::set<int64_t>{2, 3, 4, 5});
  CHECK(first.metrics().at("curriculum/seen") == Approx(2.0 / 6));
  const PromptSource neutral = after(by_pass_rate(3, {.measure = "coverage", .floor = .2, .unseen = "neutral"}),
                                     {.5, 9});
  CHECK(neutral.chance(2) == Approx(.6));
  int unseen = 0;
  for (int64_t step = 1; step <= 10000; ++step) unseen += neutral.draw(step, 0, 1)[0].example == 2 ? 1 : 0;
  CHECK(unseen / 10000.0 == Approx(.6 / 1.8).margin(.02));
  CHECK_THROWS_WITH(PromptSource(by_pass_rate(2, {.measure = "luck"})),
                    Contains("curriculum.measure") && Contains("luck"));
  CHECK_THROWS_WITH(PromptSource(by_pass_rate(2, {.unseen = "last"})), Contains("curriculum.unseen"));
}

namespace {

struct Lesson {
  double useful = 0;   // share of groups whose completions differ
  double learned = 0;  // growth of the mean success over all prompts
};

// Prompts of every difficulty, each with a logit of its own that grows by what its samples teach, p (1 - p).
Lesson practise(const CurriculumOptions& curriculum) {
  constexpr int64_t kPrompts = 100, kSteps = 150, kDraws = 4, kGroup = 8;
  PromptSource source({.examples = kPrompts, .samples_per_prompt = kGroup, .curriculum = curriculum, .seed = 5});
  std::vector<double> logit(kPrompts);
  for (size_t i = 0; i < kPrompts; ++i) logit[i] = -8 + 16.0 * static_cast<double>(i) / (kPrompts - 1);
  const auto success = [&](int64_t i) { return 1 / (1 + std::exp(-logit[static_cast<size_t>(i)])); };
  const auto mean = [&] {
    double sum = 0;
    for (int64_t i = 0; i < kPrompts; ++i) sum += success(i);
    return sum / kPrompts;
  };
  const double before = mean();
  Lesson lesson;
  for (int64_t step = 0; step < kSteps; ++step) {
    PromptUse use{.drawn = kDraws};
    for (const PromptDraw& draw : source.draw(step, 0, kDraws)) {
      RandomStream stream(8, RandomPurpose::kUser, static_cast<uint64_t>(step), static_cast<uint64_t>(draw.example));
      double right = 0;
      for (int64_t g = 0; g < kGroup; ++g) right += stream.uniform() < success(draw.example) ? 1 : 0;
      const double rate = right / kGroup;
      lesson.useful += right > 0 && right < kGroup ? 1.0 / (kSteps * kDraws) : 0;
      logit[static_cast<size_t>(draw.example)] += .5 * rate * (1 - rate);
      use.pass_rates.emplace_back(draw.example, rate);
    }
    source.finish_step(step, use);
  }
  lesson.learned = mean() - before;
  return lesson;
}

}  // namespace

TEST_CASE("a curriculum spends its samples where there is something to learn") {
  const Lesson shuffled = practise({}), chosen = practise({.measure = "any_correct"});
  CHECK(chosen.useful > 1.4 * shuffled.useful);
  CHECK(chosen.learned > 1.2 * shuffled.learned);
}

TEST_CASE("spare groups wait for later steps, the newest ones, until they are too old") {
  PromptSourceOptions options{.examples = 9, .samples_per_prompt = 2, .carry_over = {.max_groups = 3}};
  PromptSource source(options);
  CHECK(source.carried(4).empty());
  source.finish_step(0, {.spare = {group_of(0, 0), group_of(1, 0), group_of(2, 0), group_of(3, 0)}});
  const auto waiting = source.carried(2);
  REQUIRE(waiting.size() == 2);
  CHECK(waiting[0].example == 1);  // 0 was one too many
  CHECK(waiting[1].example == 2);
  CHECK(waiting[0].rows[0].log_probs == group_of(1, 0).rows[0].log_probs);
  // One is used; at step 2 the others would be two steps old.
  source.finish_step(1, {.carried = 1, .spare = {group_of(5, 1)}});
  REQUIRE(source.carried(9).size() == 1);
  CHECK(source.carried(9)[0].example == 5);

  options.carry_over.max_staleness = 2;
  PromptSource patient(options);
  patient.finish_step(0, {.spare = {group_of(1, 0), group_of(2, 0)}});
  patient.finish_step(1, {.carried = 1, .spare = {group_of(5, 1)}});
  REQUIRE(patient.carried(9).size() == 2);
  CHECK(patient.carried(9)[0].example == 2);
  patient.finish_step(2, {});
  REQUIRE(patient.carried(9).size() == 1);
  CHECK(patient.carried(9)[0].example == 5);
}

TEST_CASE("pass rates and spare groups survive a checkpoint; one that does not fit is refused") {
  PromptSourceOptions options = by_pass_rate(4);
  options.carry_over = {.max_groups = 3, .max_staleness = 5};
  PromptSource source = after(options, {.25, 1});
  source.finish_step(1, {.drawn = 6, .spare = {group_of(2, 1), group_of(3, 1)}});
  TempDir dir;
  TrainState state;
  state.step = 2, state.data_position = source.position();
  source.add_state(state.memory);
  save_checkpoint(dir.path(), state);
  const auto loaded = load_newest_checkpoint(dir.path());
  REQUIRE(loaded);

  PromptSource back(options);
  back.restore(loaded->data_position, loaded->memory);
  CHECK(back.position() == 6);
  for (int64_t i = 0; i < 4; ++i) CHECK(back.chance(i) == source.chance(i));
  CHECK(examples_of(back.draw(2, 0, 4)) == examples_of(source.draw(2, 0, 4)));
  REQUIRE(back.carried(9).size() == 2);
  for (size_t g = 0; g < 2; ++g) {
    const SampledGroup& a = back.carried(9)[g];
    const SampledGroup expected = group_of(2 + static_cast<int64_t>(g), 1);
    CHECK(a.example == expected.example);
    CHECK(a.num_answers == 2);
    CHECK(a.step == 1);
    CHECK(a.prompt == expected.prompt);
    REQUIRE(a.rows.size() == 2);
    for (size_t r = 0; r < 2; ++r) {
      CHECK(a.rows[r].ids == expected.rows[r].ids);
      CHECK(a.rows[r].log_probs == expected.rows[r].log_probs);
      CHECK(a.rows[r].finish == expected.rows[r].finish);
      CHECK(a.rows[r].text == expected.rows[r].text);
    }
  }
  // Off: nothing is written, and nothing is read.
  NamedTensors nothing;
  PromptSource({.examples = 4}).add_state(nothing);
  CHECK(nothing.empty());

  options.examples = 3;
  PromptSource other(options);
  CHECK_THROWS_WITH(other.restore(6, loaded->memory), Contains("'curriculum.pass_rate'") && Contains("the data has 3"));
  options.examples = 4, options.samples_per_prompt = 3;
  PromptSource larger(options);
  CHECK_THROWS_WITH(larger.restore(6, loaded->memory), Contains("'carry_over.ids'") && Contains("expected 6"));
  NamedTensors cut = loaded->memory;
  std::erase_if(cut, [](const auto& entry) { return entry.first == "carry_over.step"; });
  CHECK_THROWS_WITH(back.restore(6, cut), Contains("'carry_over.step' is missing"));
  CHECK(back.carried(9).size() == 2);  // and nothing has changed
}
