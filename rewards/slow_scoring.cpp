// SPDX-License-Identifier: Apache-2.0
#include "rewards/slow_scoring.h"

#include <ATen/ATen.h>

#include <chrono>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>

#include "lib/core/format.h"
#include "plural/error.h"

namespace plural {

/// Rows of one example, with all that a reward may look at.
struct SlowScoring::Rows {
  int64_t first_row;
  std::shared_ptr<const Example> example;
  int64_t num_answers = 1;
  std::vector<std::string> texts;
  std::vector<std::vector<TokenId>> ids;
};

struct SlowScoring::Runner {
  using Clock = std::chrono::steady_clock;

  /// A call's rows and what came of it.
  struct Piece {
    std::vector<int64_t> rows;
    RewardOutput output;
  };

  /// Shared by a reward's thread and its owner; the thread may live longer.
  struct Shared {
    std::mutex mutex;
    std::condition_variable changed;
    std::vector<Rows> waiting;
    std::vector<Piece> done;
    std::string problem;       // of calls that threw
    std::exception_ptr error;  // an InputError
    bool closed = false;       // no more rows come
    bool judging = false;      // inside Reward::score, which may never return
    bool finished = false;     // the thread is about to end
    bool given_up = false;     // the owner is gone: touch nothing of its
  };

  /// All that the thread works with.
  struct Call {
    std::shared_ptr<const Reward> reward;
    std::shared_ptr<std::atomic<bool>> stuck;
    Parse parse;
    Step step;
    std::stop_token stop;
    std::shared_ptr<Shared> shared;
  };

  Runner() = default;
  ~Runner() {
    stop.request_stop();
    end(Clock::now());
  }
  Runner(const Runner&) = delete;
  Runner& operator=(const Runner&) = delete;

  static void work(const Call& call);
  static void judge(const Call& call, const std::vector<Rows>& groups);
  /// Waits for the thread, at most until `deadline`, then asks it to stop, then gives it up. False when it was late.
  bool end(Clock::time_point deadline);

  std::shared_ptr<Shared> shared = std::make_shared<Shared>();
  std::stop_source stop;
  std::thread thread;
  std::shared_ptr<std::atomic<bool>> stuck;
  bool started = false;
};

namespace {

using Clock = std::chrono::steady_clock;

// What a reward that was asked to stop may still take.
constexpr auto kGrace = std::chrono::seconds(2);

}  // namespace

void SlowScoring::Runner::judge(const Call& call, const std::vector<Rows>& groups) {
  Shared& shared = *call.shared;
  std::vector<CompletionView> views;
  std::vector<const Example*> examples;
  std::vector<std::string> texts;
  Piece piece;
  for (const Rows& rows : groups) {
    for (size_t i = 0; i < rows.texts.size(); ++i) {
      CompletionView view;
      view.example = rows.example.get();
      view.text = rows.texts[i];
      view.k = rows.num_answers;
      if (!rows.ids.empty()) view.ids = rows.ids[i];
      views.push_back(view);
      examples.push_back(rows.example.get());
      texts.push_back(rows.texts[i]);
      piece.rows.push_back(rows.first_row + static_cast<int64_t>(i));
    }
  }
  std::string problem;
  std::exception_ptr error;
  bool judged = false;
  try {
    const AnswerBatch answers = call.parse(views, call.stop);
    {
      const std::lock_guard lock(shared.mutex);
      shared.judging = true;
    }
    piece.output = call.reward->score({.answers = answers,
                                       .examples = examples,
                                       .completions = texts,
                                       .samples_per_prompt = call.step.samples_per_prompt,
                                       .step = call.step.step,
                                       .steps = call.step.steps,
                                       .max_new_tokens = call.step.max_new_tokens,
                                       .vocab_size = call.step.vocab_size,
                                       .stop = call.stop});
    check_shapes({{"row", piece.output.row, "B"},
                  {"per_answer", piece.output.per_answer, "B K", true},
                  {"valid", piece.output.valid, "B", true},
                  {"confidence", answers.confidence, "B K"}});
    judged = true;
  } catch (const InputError&) {
    error = std::current_exception();
  } catch (const std::exception& thrown) {
    if (!call.stop.stop_requested()) problem = thrown.what();  // else it is late, whatever it says
  } catch (...) {
    problem = "an exception of an unknown type";
  }
  const std::lock_guard lock(shared.mutex);
  shared.judging = false;
  if (error && !shared.error) shared.error = error;
  if (!problem.empty() && shared.problem.empty()) shared.problem = problem;
  if (judged) shared.done.push_back(std::move(piece));
}

void SlowScoring::Runner::work(const Call& call) {
  const std::shared_ptr<Shared>& shared = call.shared;
  for (;;) {
    std::vector<Rows> groups;
    {
      std::unique_lock lock(shared->mutex);
      shared->changed.wait(lock, [&] { return shared->given_up || shared->closed || !shared->waiting.empty(); });
      if (shared->given_up || shared->error || call.stop.stop_requested() || shared->waiting.empty()) {
        shared->finished = true;
        shared->changed.notify_all();
        if (shared->given_up) call.stuck->store(false);
        return;
      }
      groups.swap(shared->waiting);
    }
    judge(call, groups);
  }
}

bool SlowScoring::Runner::end(Clock::time_point deadline) {
  if (!thread.joinable()) return started;
  bool in_time, given_up;
  {
    std::unique_lock lock(shared->mutex);
    const auto returned = [&] { return shared->finished; };
    shared->closed = true;
    shared->changed.notify_all();
    in_time = shared->changed.wait_until(lock, deadline, returned);
    if (!in_time) {
      stop.request_stop();
      // What it has judged by now still counts. Outside of the reward itself nothing takes long: the matcher has been
      // asked to stop, too.
      shared->changed.wait_for(lock, kGrace, returned);
      while (!shared->finished && !shared->judging) shared->changed.wait_for(lock, kGrace, returned);
    }
    given_up = shared->given_up = !shared->finished;
    if (given_up) stuck->store(true);
  }
  if (given_up)
    thread.detach();
  else
    thread.join();
  return in_time;
}

SlowScoring::SlowScoring(const RewardStack& stack, Parse parse, const Step& step) : stack_(stack) {
  for (const RewardStack::Term& term : stack.terms()) {
    runners_.push_back(nullptr);
    if (!term.reward->slow()) continue;
    auto& runner = *(runners_.back() = std::make_unique<Runner>());
    runner.stuck = term.stuck;
    if (term.stuck->load()) continue;  // its last call has not returned
    runner.started = true;
    runner.thread = std::thread(
        Runner::work, Runner::Call{term.reward, term.stuck, parse, step, runner.stop.get_token(), runner.shared});
  }
}

SlowScoring::~SlowScoring() = default;

void SlowScoring::add(int64_t first_row, const Example& example, int64_t num_answers, std::vector<std::string> texts,
                      std::vector<std::vector<TokenId>> ids) {
  hand_over({{first_row, std::make_shared<const Example>(example), num_answers, std::move(texts), std::move(ids)}});
}

void SlowScoring::add_all(const RewardInput& input) {
  std::vector<Rows> groups;
  const Tensor asked = input.answers.k.to(at::kCPU);
  const Example* last = nullptr;
  for (size_t b = 0; b < input.completions.size(); ++b) {
    const auto k = asked[static_cast<int64_t>(b)].item<int64_t>();
    if (input.examples[b] != last || k != groups.back().num_answers)
      groups.push_back({static_cast<int64_t>(b), std::make_shared<const Example>(*input.examples[b]), k, {}, {}});
    last = input.examples[b];
    groups.back().texts.push_back(input.completions[b]);
  }
  hand_over(groups);
}

void SlowScoring::hand_over(const std::vector<Rows>& groups) {
  for (const Rows& rows : groups) {
    const size_t first = static_cast<size_t>(rows.first_row), end = first + rows.texts.size();
    if (examples_.size() < end) examples_.resize(end);
    std::fill(examples_.begin() + rows.first_row, examples_.begin() + static_cast<int64_t>(end), rows.example);
  }
  for (auto& runner : runners_) {
    if (!runner || !runner->started) continue;
    const std::lock_guard lock(runner->shared->mutex);
    std::vector<Rows>& waiting = runner->shared->waiting;
    waiting.insert(waiting.end(), groups.begin(), groups.end());
    runner->shared->changed.notify_all();
  }
}

std::vector<RewardOutput> SlowScoring::finish(const AnswerBatch& answers) {
  const auto begin = Clock::now();
  std::vector<RewardOutput> outputs(runners_.size());
  const auto device = answers.confidence.device();
  for (size_t i = 0; i < runners_.size(); ++i) {
    if (!runners_[i]) continue;
    Runner& runner = *runners_[i];
    const RewardStack::Term& term = stack_.terms()[i];
    const auto allowed = std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(term.deadline_s));
    const bool in_time = runner.end(begin + allowed);
    const std::lock_guard lock(runner.shared->mutex);
    if (runner.shared->error) std::rethrow_exception(runner.shared->error);

    RewardOutput& out = outputs[i];
    out.row = at::full({answers.rows}, term.reward->fail_value(), at::kFloat);
    Tensor per_answer = at::zeros({answers.rows, answers.slots}, at::kFloat);
    Tensor valid = at::ones({answers.rows}, at::kBool);
    Tensor judged = at::zeros({answers.rows}, at::kBool);
    for (const Runner::Piece& piece : runner.shared->done) {
      const Tensor rows = at::tensor(piece.rows, at::kLong);
      const auto host = [](const Tensor& x, at::ScalarType type) { return x.to(at::kCPU, type); };
      judged.index_fill_(0, rows, true);
      out.row.index_copy_(0, rows, host(piece.output.row, at::kFloat));
      if (piece.output.valid.defined()) {
        valid.index_copy_(0, rows, host(piece.output.valid, at::kBool));
        out.valid = valid;
      }
      if (piece.output.per_answer.defined()) {
        const Tensor parts = host(piece.output.per_answer, at::kFloat);
        per_answer.narrow(1, 0, parts.size(1)).index_copy_(0, rows, parts);
        out.per_answer = per_answer;
      }
      for (const auto& [key, value] : piece.output.metrics) out.metrics[key] += value;
      if (out.problem.empty()) out.problem = piece.output.problem;
    }
    int64_t failed = 0;
    for (int64_t b = 0; b < answers.rows; ++b) {
      if (judged[b].item<bool>()) continue;
      if (term.reward->applies_to(*examples_[static_cast<size_t>(b)])) {
        ++failed;
        continue;
      }
      valid[b] = false;
      out.valid = valid;
    }
    out.metrics["failed_rows"] = static_cast<double>(failed);
    if (out.problem.empty()) out.problem = runner.shared->problem;
    if (!runner.started)
      out.problem = "an earlier call has not returned yet";
    else if (!in_time)
      out.problem = fmt::format("not back within deadline_s = {}", term.deadline_s);
    out.row = out.row.to(device);
    if (out.valid.defined()) out.valid = out.valid.to(device);
    if (out.per_answer.defined()) out.per_answer = out.per_answer.to(device);
  }
  return outputs;
}

}  // namespace plural
