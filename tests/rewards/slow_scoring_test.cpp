// SPDX-License-Identifier: Apache-2.0
#include "rewards/slow_scoring.h"

#include <condition_variable>
#include <mutex>
#include <thread>

#include "tests/external/external_support.h"
#include "tests/rewards/reward_fixture.h"

using namespace plural;
using namespace plural::testing;

namespace {

/// Held by a test, waited for by a reward.
struct Gate {
  std::mutex mutex;
  std::condition_variable changed;
  bool open = false;
  std::atomic<int> inside{0}, passed{0};

  void wait() {
    ++inside;
    std::unique_lock lock(mutex);
    changed.wait(lock, [this] { return open; });
    ++passed;
  }
  void release() {
    const std::lock_guard lock(mutex);
    open = true;
    changed.notify_all();
  }
};

/// The length of each completion / 10, after some time; what the text says may go wrong.
class Slow : public Reward {
 public:
  explicit Slow(double seconds = 0, std::shared_ptr<Gate> gate = {}) : seconds_(seconds), gate_(std::move(gate)) {}
  std::string name() const override { return "slow_length"; }
  bool slow() const override { return true; }
  double fail_value() const override { return -0.5; }
  RewardOutput score(const RewardInput& input) const override {
    std::this_thread::sleep_for(std::chrono::duration<double>(seconds_));
    std::vector<float> values;
    for (const std::string& text : input.completions) {
      if (text == "hang") gate_->wait();
      if (text == "throw") throw std::runtime_error("it broke");
      if (text == "wrong") throw InputError("the setting is wrong");
      while (text == "wait" && !input.stop.stop_requested()) std::this_thread::sleep_for(std::chrono::milliseconds(5));
      values.push_back(static_cast<float>(text.size()) / 10);
    }
    return {.row = at::tensor(values), .metrics = {{"calls", 1}, {"rows", static_cast<double>(values.size())}}};
  }

 private:
  double seconds_;
  std::shared_ptr<Gate> gate_;
};

/// Judges examples of mathematics only.
class SlowMaths final : public Slow {
 public:
  using Slow::Slow;
  bool applies_to(const Example& example) const override { return example.source == "maths"; }
};

struct Case {
  explicit Case(std::vector<std::string> completions) : scored(animals(), std::move(completions), 2) {}
  RewardStack::Result score() const { return stack.score(scored.input()); }

  Scored scored;
  RewardStack stack;
};

}  // namespace

TEST_CASE("slow rewards are part of the total like all others") {
  Case c({"one", "three", ""});
  c.stack.add(std::make_unique<Slow>(), 2.0);
  c.stack.add(builtin_rewards().make("format"), 1.0);
  CHECK(c.stack.has_slow());
  const auto result = c.score();
  check_close(Scored::values(result.total), {0.6, 1.0, 0});
  CHECK(result.total.device() == c.scored.answers.confidence.device());
  CHECK(result.metrics.at("reward/slow_length/failed_rows") == 0);
  CHECK(result.metrics.at("reward/slow_length/calls") == 1);  // a batch that is complete is one call
  CHECK(result.problems.empty());
}

TEST_CASE("slow rewards wait at the same time") {
  Case c({"one"});
  for (int i = 0; i < 5; ++i) c.stack.add(std::make_unique<Slow>(0.5), 1.0, "slow" + std::to_string(i));
  CHECK(seconds_of([&] { c.score(); }) < 1.5);
}

TEST_CASE("a slow reward that throws pays its fail value, and says why") {
  Case c({"one", "throw"});
  c.stack.add(std::make_unique<Slow>());
  const auto result = c.score();
  check_close(Scored::values(result.total), {-0.5, -0.5});
  CHECK(result.metrics.at("reward/slow_length/failed_rows") == 2);
  CHECK(result.problems == std::vector<std::string>{"slow_length: it broke"});
  Case wrong({"wrong"});
  wrong.stack.add(std::make_unique<Slow>());
  CHECK_THROWS_WITH(wrong.score(), "the setting is wrong");  // the user's mistake is no bad luck
}

TEST_CASE("a slow reward that fails pays nothing for rows that it does not apply to") {
  const auto gate = std::make_shared<Gate>();
  for (const std::string trouble : {"throw", "hang"}) {
    INFO(trouble);
    Case c({trouble, "one", "two", "three"});
    c.stack.add(std::make_unique<SlowMaths>(0, gate), 1.0, "", 0.1);
    Example maths, quiz;
    maths.source = "maths", quiz.source = "quiz";
    const std::vector<const Example*> examples = {&maths, &quiz, &maths, &quiz};
    RewardInput input = c.scored.input();
    input.examples = examples;
    for (int call = 0; call < 2; ++call) {  // of one that hangs, the second fails at once
      const auto result = c.stack.score(input);
      check_close(Scored::values(result.total), {-0.5, 0, -0.5, 0});
      CHECK(result.metrics.at("reward/slow_length/failed_rows") == 2);
      CHECK(result.metrics.at("reward/slow_length/valid") == 0.5);
      CHECK(result.metrics.at("reward/slow_length/mean") == -0.5);
    }
  }
  gate->release();
  while (gate->passed == 0) std::this_thread::sleep_for(std::chrono::milliseconds(5));
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
}

TEST_CASE("a slow reward that heeds the request to stop keeps what it has") {
  Case c({"wait"});
  c.stack.add(std::make_unique<Slow>(), 1.0, "", 0.2);
  RewardStack::Result result;
  CHECK(seconds_of([&] { result = c.score(); }) < 1.5);
  check_close(Scored::values(result.total), {0.4});
  CHECK(result.metrics.at("reward/slow_length/failed_rows") == 0);
  CHECK_THAT(result.problems.at(0), Catch::Contains("deadline_s = 0.2"));
}

TEST_CASE("a slow reward that hangs is given up, and not called again before it has returned") {
  const auto gate = std::make_shared<Gate>();
  auto c = std::make_unique<Case>(std::vector<std::string>{"hang", "one"});
  c->stack.add(std::make_unique<Slow>(0, gate), 1.0, "", 0.1);
  c->stack.add(builtin_rewards().make("format"), 1.0);
  RewardStack::Result result;
  CHECK(seconds_of([&] { result = c->score(); }) < 10);
  check_close(Scored::values(result.total), {-0.5, -0.5});
  CHECK(result.metrics.at("reward/slow_length/failed_rows") == 2);
  CHECK(gate->inside == 1);
  CHECK(seconds_of([&] { result = c->score(); }) < 1);  // at once
  check_close(Scored::values(result.total), {-0.5, -0.5});
  CHECK_THAT(result.problems.at(0), Catch::Contains("earlier call"));
  CHECK(gate->inside == 1);

  gate->release();
  while (c->stack.terms()[0].stuck->load()) std::this_thread::sleep_for(std::chrono::milliseconds(5));
  check_close(Scored::values(c->score().total), {0.4, 0.3});  // back to work
}

TEST_CASE("a call that was given up may outlive everything") {
  const auto gate = std::make_shared<Gate>();
  {
    Case c({"hang"});
    c.stack.add(std::make_unique<Slow>(0, gate), 1.0, "", 0.1);
    c.score();
  }
  gate->release();
  while (gate->passed == 0) std::this_thread::sleep_for(std::chrono::milliseconds(5));
  std::this_thread::sleep_for(std::chrono::milliseconds(50));  // ThreadSanitizer and AddressSanitizer watch the rest
}

TEST_CASE("rows are scored as they come, in any order, and each once") {
  Case c({"a", "bb", "ccc", "dddd", "eeeee", "ffffff"});
  c.stack.add(std::make_unique<Slow>());
  const auto input = c.scored.input();
  const auto format = make_answer_format("compact");
  const auto matcher = make_matcher("alias");
  const auto parse = [&](std::span<const CompletionView> views, const std::stop_token&) {
    for (const CompletionView& view : views) CHECK(view.k == 2);
    return build_answer_batch(views, *format, *matcher, nullptr);
  };
  SlowScoring slow(c.stack, parse, SlowScoring::Step(input));
  const auto texts = [&](size_t first) {
    return std::vector<std::string>{input.completions[first], input.completions[first + 1]};
  };
  slow.add(2, *input.examples[0], 2, texts(2));
  std::this_thread::sleep_for(std::chrono::milliseconds(300));  // the first rows are scored by themselves
  slow.add(4, *input.examples[0], 2, texts(4));
  slow.add(0, *input.examples[0], 2, texts(0));
  const auto result = c.stack.score(input, &slow);
  check_close(Scored::values(result.total), {0.1, 0.2, 0.3, 0.4, 0.5, 0.6});
  CHECK(result.metrics.at("reward/slow_length/rows") == 6);
  CHECK(result.metrics.at("reward/slow_length/calls") >= 2);
  CHECK(result.metrics.at("reward/slow_length/failed_rows") == 0);
}

TEST_CASE("rows of one example may be asked for different numbers of answers") {
  Case c({"a", "bb", "ccc"});
  c.stack.add(std::make_unique<Slow>());
  c.scored.answers.k = at::tensor({2, 1, 1}, at::kLong).to(test_device());
  std::vector<int64_t> asked;
  SlowScoring slow(
      c.stack,
      [&](std::span<const CompletionView> views, const std::stop_token&) {
        for (const CompletionView& view : views) asked.push_back(view.k);
        return c.scored.answers.to(at::kCPU);
      },
      SlowScoring::Step(c.scored.input()));
  slow.add_all(c.scored.input());
  check_close(Scored::values(c.stack.score(c.scored.input(), &slow).total), {0.1, 0.2, 0.3});
  CHECK(asked == std::vector<int64_t>{2, 1, 1});
}

namespace {

/// Ones for every answer; does not apply to "none"; throws at "throw".
class SlowParts final : public Reward {
 public:
  std::string name() const override { return "parts"; }
  bool slow() const override { return true; }
  double fail_value() const override { return -0.5; }
  RewardOutput score(const RewardInput& input) const override {
    std::vector<float> values;
    std::vector<int64_t> valid;
    for (const std::string& text : input.completions) {
      if (text == "throw") throw std::runtime_error("it broke");
      values.push_back(static_cast<float>(text.size()));
      valid.push_back(text != "none");
    }
    return {.row = at::tensor(values),
            .per_answer = at::ones({input.answers.rows, input.answers.slots}),
            .valid = at::tensor(valid).to(at::kBool),
            .metrics = {{"rows", static_cast<double>(values.size())}}};
  }
};

}  // namespace

TEST_CASE("batches that share a memory ask about a row once, and so about one that failed") {
  RewardStack stack;
  stack.add(std::make_unique<SlowParts>());
  const auto memory = std::make_shared<SlowMemory>();
  Example example;
  const auto format = make_answer_format("compact");
  const auto matcher = make_matcher("alias");
  const auto score = [&](const std::vector<std::string>& texts, int64_t k) {
    std::vector<CompletionView> views;
    for (const std::string& text : texts) views.push_back({&example, text, {}, k});
    const AnswerBatch answers = build_answer_batch(views, *format, *matcher, nullptr, test_device());
    const std::vector<const Example*> examples(texts.size(), &example);
    const RewardInput input{.answers = answers, .examples = examples, .completions = texts};
    SlowScoring slow(
        stack,
        [&](std::span<const CompletionView> rows, const std::stop_token&) {
          return build_answer_batch(rows, *format, *matcher, nullptr);
        },
        SlowScoring::Step(input), memory);
    // One call a row, as the rows of a call fail together.
    for (size_t b = 0; b < texts.size(); ++b) {
      slow.add(static_cast<int64_t>(b), example, k, {texts[b]});
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
    }
    return stack.score(input, &slow);
  };
  const auto first = score({"one", "none", "throw"}, 2);
  check_close(Scored::values(first.total), {3, 0, -0.5});
  CHECK(first.metrics.at("reward/parts/rows") == 2);
  CHECK(first.metrics.at("reward/parts/failed_rows") == 1);
  const auto second = score({"throw", "three", "none", "one"}, 2);
  check_close(Scored::values(second.total), {-0.5, 5, 0, 3});
  check_close(Scored::values(second.per_answer), {0, 0, 1, 1, 0, 0, 1, 1});
  CHECK(second.metrics.at("reward/parts/rows") == 3);  // of both; only "three" was new
  CHECK(second.metrics.at("reward/parts/failed_rows") == 1);
  CHECK(second.problems == std::vector<std::string>{"parts: it broke"});
  // Another number of answers is another question.
  CHECK(score({"one"}, 1).metrics.at("reward/parts/rows") == 4);
  CHECK(score({"one"}, 2).metrics.at("reward/parts/failed_rows") == 0);
}

TEST_CASE("scoring that is not finished ends with its owner") {
  Case c({"wait"});
  c.stack.add(std::make_unique<Slow>());
  CHECK(seconds_of([&] {
          SlowScoring slow(
              c.stack, [&](auto, const auto&) { return c.scored.answers.to(at::kCPU); },
              SlowScoring::Step(c.scored.input()));
          slow.add_all(c.scored.input());
          std::this_thread::sleep_for(std::chrono::milliseconds(50));
        }) < 1.5);
  CHECK_FALSE(c.stack.terms()[0].stuck->load());
}
