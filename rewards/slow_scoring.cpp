// SPDX-License-Identifier: Apache-2.0
#include "rewards/slow_scoring.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <iterator>
#include <mutex>
#include <thread>

#include "lib/core/format.h"
#include "plural/error.h"

namespace plural {

/// Rows of one example, with all that a reward may look at.
struct SlowScoring::Rows {
  std::vector<int64_t> places;  // in the batch
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
  /// `rows`: of the whole batch.
  static void remember(const Piece& piece, const std::vector<SlowRow>& rows, SlowMemory::Term& known);
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
      piece.rows.push_back(rows.places[i]);
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

void SlowScoring::Runner::remember(const Piece& piece, const std::vector<SlowRow>& rows, SlowMemory::Term& known) {
  const auto host = [](const Tensor& x, at::ScalarType type) {
    return x.defined() ? x.to(at::kCPU, type).contiguous() : Tensor();
  };
  const Tensor value = host(piece.output.row, at::kFloat), valid = host(piece.output.valid, at::kBool),
               parts = host(piece.output.per_answer, at::kFloat);
  const int64_t slots = parts.defined() ? parts.size(1) : 0;
  for (size_t i = 0; i < piece.rows.size(); ++i) {
    SlowVerdict verdict{.value = value.const_data_ptr<float>()[i]};
    if (valid.defined()) verdict.valid = valid.const_data_ptr<bool>()[i];
    if (slots > 0) {
      const float* first = parts.const_data_ptr<float>() + static_cast<int64_t>(i) * slots;
      verdict.per_answer.assign(first, first + slots);
    }
    known.verdicts.emplace(rows[static_cast<size_t>(piece.rows[i])], std::move(verdict));
  }
  for (const auto& [key, count] : piece.output.metrics) known.metrics[key] += count;
  if (known.problem.empty()) known.problem = piece.output.problem;
}

SlowScoring::SlowScoring(const RewardStack& stack, Parse parse, const Step& step, std::shared_ptr<SlowMemory> memory)
    : stack_(stack), memory_(memory ? std::move(memory) : std::make_shared<SlowMemory>()) {
  memory_->terms.resize(stack.terms().size());
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
  hand_over({take(first_row, example, num_answers, std::move(texts), std::move(ids))});
}

void SlowScoring::add_all(const RewardInput& input) {
  std::vector<Rows> groups;
  const Tensor asked = input.answers.k.to(at::kCPU);
  const auto k = asked.accessor<int64_t, 1>();
  const auto rows = static_cast<int64_t>(input.completions.size());
  for (int64_t first = 0, end = 0; first < rows; first = end) {
    const Example* example = input.examples[static_cast<size_t>(first)];
    std::vector<std::string> texts;
    for (; end < rows && input.examples[static_cast<size_t>(end)] == example && k[end] == k[first]; ++end)
      texts.push_back(input.completions[static_cast<size_t>(end)]);
    groups.push_back(take(first, *example, k[first], std::move(texts), {}));
  }
  hand_over(groups);
}

SlowScoring::Rows SlowScoring::take(int64_t first_row, const Example& example, int64_t num_answers,
                                    std::vector<std::string> texts, std::vector<std::vector<TokenId>> ids) {
  Rows group{{}, std::make_shared<const Example>(example), num_answers, std::move(texts), std::move(ids)};
  const auto first = static_cast<size_t>(first_row), count = group.texts.size();
  rows_.resize(std::max(rows_.size(), first + count));
  for (size_t i = 0; i < count; ++i) {
    group.places.push_back(static_cast<int64_t>(first + i));
    rows_[first + i] = {&example, num_answers, group.texts[i],
                        group.ids.empty() ? std::vector<TokenId>() : group.ids[i]};
  }
  return group;
}

// Those that the term has no verdict on.
SlowScoring::Rows SlowScoring::unknown(const Rows& group, const SlowMemory::Term& known) const {
  Rows rest{{}, group.example, group.num_answers, {}, {}};
  for (size_t i = 0; i < group.places.size(); ++i) {
    if (known.verdicts.contains(rows_[static_cast<size_t>(group.places[i])])) continue;
    rest.places.push_back(group.places[i]);
    rest.texts.push_back(group.texts[i]);
    if (!group.ids.empty()) rest.ids.push_back(group.ids[i]);
  }
  return rest;
}

void SlowScoring::hand_over(const std::vector<Rows>& groups) {
  for (size_t i = 0; i < runners_.size(); ++i) {
    if (!runners_[i] || !runners_[i]->started) continue;
    std::vector<Rows> fresh;
    for (const Rows& group : groups)
      if (Rows rest = unknown(group, memory_->terms[i]); !rest.places.empty()) fresh.push_back(std::move(rest));
    if (fresh.empty()) continue;
    Runner::Shared& shared = *runners_[i]->shared;
    const std::lock_guard lock(shared.mutex);
    std::move(fresh.begin(), fresh.end(), std::back_inserter(shared.waiting));
    shared.changed.notify_all();
  }
}

// Ends the term's calls and takes over what they said. Afterwards there is a verdict on every row.
void SlowScoring::settle(size_t i, Clock::time_point deadline) {
  Runner& runner = *runners_[i];
  const RewardStack::Term& term = stack_.terms()[i];
  SlowMemory::Term& known = memory_->terms[i];
  const bool in_time = runner.end(deadline);
  const std::lock_guard lock(runner.shared->mutex);
  if (runner.shared->error) std::rethrow_exception(runner.shared->error);
  for (const Runner::Piece& piece : runner.shared->done) Runner::remember(piece, rows_, known);
  if (known.problem.empty()) known.problem = runner.shared->problem;

  bool failed = false;
  for (const SlowRow& row : rows_) {
    const auto [place, is_new] = known.verdicts.try_emplace(row);
    if (!is_new) continue;
    SlowVerdict& verdict = place->second;
    verdict.failed = term.reward->applies_to(*row.example);
    verdict.value = static_cast<float>(term.reward->fail_value());
    if (!verdict.failed) verdict.valid = false;
    failed = failed || verdict.failed;
  }
  if (!in_time && runner.started)
    known.problem = fmt::format("not back within deadline_s = {}", term.deadline_s);
  else if (!runner.started && failed)
    known.problem = "an earlier call has not returned yet";
}

std::vector<RewardOutput> SlowScoring::finish(const AnswerBatch& answers) {
  PLURAL_CHECK(static_cast<size_t>(answers.rows) == rows_.size(), "slow rewards judge the rows that were added");
  const auto begin = Clock::now();
  std::vector<RewardOutput> outputs(runners_.size());
  for (size_t i = 0; i < runners_.size(); ++i) {
    if (!runners_[i]) continue;
    const std::chrono::duration<double> allowed(stack_.terms()[i].deadline_s);
    settle(i, begin + std::chrono::duration_cast<Clock::duration>(allowed));
    outputs[i] = output_of(memory_->terms[i], answers);
  }
  return outputs;
}

RewardOutput SlowScoring::output_of(const SlowMemory::Term& known, const AnswerBatch& answers) const {
  Tensor row = at::empty({answers.rows}, at::kFloat), valid = at::ones({answers.rows}, at::kBool);
  Tensor per_answer = at::zeros({answers.rows, answers.slots}, at::kFloat);
  bool any_valid = false, any_parts = false;
  int64_t failed = 0;
  for (int64_t b = 0; b < answers.rows; ++b) {
    const SlowVerdict& verdict = known.verdicts.at(rows_[static_cast<size_t>(b)]);
    row.mutable_data_ptr<float>()[b] = verdict.value;
    failed += verdict.failed;
    if (verdict.valid) valid.mutable_data_ptr<bool>()[b] = *verdict.valid;
    any_valid = any_valid || verdict.valid;
    const int64_t parts = std::min(answers.slots, static_cast<int64_t>(verdict.per_answer.size()));
    std::copy_n(verdict.per_answer.begin(), parts, per_answer.mutable_data_ptr<float>() + b * answers.slots);
    any_parts = any_parts || parts > 0;
  }
  const auto device = answers.confidence.device();
  RewardOutput out;
  out.row = row.to(device);
  if (any_valid) out.valid = valid.to(device);
  if (any_parts) out.per_answer = per_answer.to(device);
  out.metrics = known.metrics;
  out.metrics["failed_rows"] = static_cast<double>(failed);
  out.problem = known.problem;
  return out;
}

}  // namespace plural
