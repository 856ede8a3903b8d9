// SPDX-License-Identifier: Apache-2.0
#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

#include "lib/core/format.h"
#include "lib/objectives/advantages/groups.h"
#include "lib/train/credit_input.h"
#include "lib/train/critic_update.h"
#include "lib/train/mode_replay.h"
#include "lib/train/moving_reference.h"
#include "lib/train/policy_update.h"
#include "lib/train/prompt_source.h"
#include "lib/train/prompts.h"
#include "lib/train/step_metrics.h"
#include "lib/train/stopwatch.h"
#include "lib/train/token_entropy.h"
#include "lib/train/train_state.h"
#include "plural/embedder.h"
#include "plural/error.h"
#include "plural/trainer.h"
#include "rewards/slow_scoring.h"

namespace plural {

/// Everything one step made, one member an arrow of design.md's picture.
struct RlTrainer::LastStep {
  std::vector<const Example*> examples;       // B: each prompt's example, G times
  std::vector<int64_t> num_answers;           // P: K of each prompt
  std::vector<uint8_t> older_policy;          // P: 1 = carried over from an earlier step
  std::vector<std::vector<TokenId>> prompts;  // P
  RolloutBatch rollout;
  std::vector<std::string> texts;  // B
  AnswerBatch answers;
  Tensor token_entropy;                       // [B, T], where a reward asks for it
  std::unique_ptr<Embedder> policy_embedder;  // for rewards that compare answers by the policy's states
  std::shared_ptr<SlowMemory> judged;         // what slow rewards have said; only while the step samples
  std::unique_ptr<SlowScoring> slow;          // only while the step runs
  RewardStack::Result rewards;
  Tensor token_reward;  // [M], what is paid at single tokens: the KL in the reward
  Tensor value;         // [M], the critic's, before the update
  AdvantageOutput advantage;
  PromptUse use;            // told to the source of prompts at the end
  int64_t refills = 0;      // rounds of further prompts
  int64_t replayed = 0;     // rows trained on again
  int64_t fresh_modes = 0;  // that replay did not know
  double generate_s = 0;
  double kl_ref = 0;  // of the KL in the reward, nats a token
  bool kl_measured = false;

  int64_t groups() const { return static_cast<int64_t>(prompts.size()); }
  size_t group_size() const { return examples.size() / prompts.size(); }
  /// Gives the rows of a prompt to the slow rewards.
  void hand_over(size_t prompt, std::span<const Completion> rows) const;
  /// Forgets the groups that are not kept ([P] bool); what was made of all of them must be made again.
  void keep(const Tensor& kept);
  std::vector<PackRow> pack_rows() const;
  /// [M] float32, nats, rows after one another.
  Tensor sampled_log_probs() const;
  /// [M] -> [B].
  Tensor sum_by_row(const Tensor& token) const;
};

/// Rows of the likelihood term, and the prompts that they look at.
struct RlTrainer::ReplayedRows {
  std::vector<std::vector<TokenId>> prompts;
  std::vector<LikelihoodRow> rows;
};

namespace {

/// The tensor on the host in float64, to be read row by row.
Tensor host(const Tensor& x) { return x.to(at::kCPU, at::kDouble).contiguous(); }

std::span<const double> values(const Tensor& x) { return {x.const_data_ptr<double>(), static_cast<size_t>(x.numel())}; }

/// [P] bool: the groups whose rewards differ by more than rounding (as the estimators see it).
Tensor varied_groups(const Tensor& total, int64_t samples_per_prompt) {
  const Tensor groups = host(total).view({-1, samples_per_prompt});
  const Tensor largest = groups.amax(1), smallest = groups.amin(1);
  return is_rounding(largest - smallest, at::maximum(largest.abs(), smallest.abs())).logical_not();
}

template <class T>
void keep_groups(std::vector<T>& rows, const Tensor& keep, int64_t group) {
  std::vector<T> kept;
  for (size_t i = 0; i < rows.size(); ++i)
    if (keep[static_cast<int64_t>(i) / group].item<bool>()) kept.push_back(std::move(rows[i]));
  rows = std::move(kept);
}

// Names of a checkpoint's entries.
constexpr const char *kCritic = "critic/", *kReference = "reference/";

void check_critic_fits(const AdvantageEstimator& advantage, const Critic* critic) {
  if (advantage.needs_value() && critic == nullptr)
    throw InputError(
        fmt::format("advantage '{}' compares rewards with the values of a critic, but there is none; give "
                    "one (critic.trunk: shared or own), or take another advantage",
                    advantage.name()));
  if (!advantage.needs_value() && critic != nullptr)
    throw InputError(
        fmt::format("advantage '{}' has no use for a critic; take gae, or leave the critic out", advantage.name()));
}

}  // namespace

void RlTrainer::LastStep::keep(const Tensor& kept) {
  const auto group = static_cast<int64_t>(group_size());
  keep_groups(prompts, kept, 1);
  keep_groups(num_answers, kept, 1);
  keep_groups(older_policy, kept, 1);
  keep_groups(rollout.prompts, kept, 1);
  keep_groups(rollout.rows, kept, group);
  keep_groups(examples, kept, group);
  keep_groups(texts, kept, group);
}

void RlTrainer::LastStep::hand_over(size_t prompt, std::span<const Completion> rows) const {
  std::vector<std::string> row_texts;
  std::vector<std::vector<TokenId>> ids;
  for (const Completion& row : rows) {
    row_texts.push_back(row.text);
    ids.push_back(row.ids);
  }
  const size_t first = prompt * rows.size();
  slow->add(static_cast<int64_t>(first), *examples[first], num_answers[prompt], std::move(row_texts), std::move(ids));
}

std::vector<PackRow> RlTrainer::LastStep::pack_rows() const {
  std::vector<PackRow> rows;
  for (size_t b = 0; b < rollout.rows.size(); ++b) rows.push_back({prompts[b / group_size()], rollout.rows[b].ids});
  return rows;
}

Tensor RlTrainer::LastStep::sampled_log_probs() const {
  std::vector<float> sampled;
  for (const Completion& row : rollout.rows) sampled.insert(sampled.end(), row.log_probs.begin(), row.log_probs.end());
  return at::tensor(sampled, at::kFloat);
}

Tensor RlTrainer::LastStep::sum_by_row(const Tensor& token) const {
  std::vector<int64_t> lengths;
  for (const Completion& row : rollout.rows) lengths.push_back(static_cast<int64_t>(row.ids.size()));
  const Tensor row = at::repeat_interleave(at::tensor(lengths, at::kLong));
  return at::zeros({static_cast<int64_t>(lengths.size())}, token.options()).index_add(0, row, token);
}

void check_advantage_fits(const Objective& objective, const AdvantageEstimator& advantage) {
  if (advantage.corrects_off_policy() && objective.needs().sampler)
    throw InputError(
        fmt::format("advantage '{}' weighs off-policy completions itself, and objective.importance would weigh them a "
                    "second time: set objective.importance to none",
                    advantage.name()));
  const std::string why = objective.needs().no_token_advantages;
  if (!advantage.per_token() || why.empty()) return;
  throw InputError(
      fmt::format("advantage '{}' gives the tokens of a completion different advantages, but the objective "
                  "takes one for all of them: {}, or an advantage for whole completions (grpo, rloo)",
                  advantage.name(), why));
}

RlTrainer::RlTrainer(RlParts parts, RlOptions options) : parts_(parts), options_(std::move(options)) {
  PLURAL_CHECK(!parts_.examples.empty(), "RL needs at least one example");
  PLURAL_CHECK(options_.prompts_per_step >= 1 && options_.samples_per_prompt >= 1 && options_.passes >= 1 &&
                   options_.max_batch_tokens >= 1,
               "prompts_per_step, samples_per_prompt, passes and max_batch_tokens are at least 1");
  check_num_answers(parts_.format, options_.num_answers);
  if (!(options_.sampling.temperature > 0))
    throw InputError(
        fmt::format("sampling.temperature: RL needs a temperature above 0, got {}; greedy completions of "
                    "one prompt are all equal",
                    options_.sampling.temperature));
  const ObjectiveNeeds needs = parts_.objective.needs();
  if ((needs.reference || needs.kl_in_reward) && parts_.reference == nullptr)
    throw InputError("objective.kl_weight: a KL term needs a reference policy, none was given");
  check_advantage_fits(parts_.objective, parts_.advantage);
  check_critic_fits(parts_.advantage, parts_.critic);
  if (options_.reference_update.every > 0) {
    if (parts_.reference == nullptr)
      throw InputError("objective.reference_update: there is no reference that could follow the policy");
    moving_reference_ = std::make_shared<MovingReference>(*parts_.reference, parts_.policy, options_.reference_update);
  }
  if (options_.max_refills > 0 && (parts_.advantage.needs_value() || parts_.advantage.needs_greedy()))
    throw InputError(
        fmt::format("advantage '{}' learns from prompts whose rewards are all equal as well: max_refills must be 0",
                    parts_.advantage.name()));
  parts_.advantage.check_sizes(options_.samples_per_prompt, std::ranges::max(options_.num_answers));
  PLURAL_CHECK(options_.refill_factor >= 1, "refill_factor is at least 1");
  source_ = std::make_shared<PromptSource>(PromptSourceOptions{.examples = static_cast<int64_t>(parts_.examples.size()),
                                                               .samples_per_prompt = options_.samples_per_prompt,
                                                               .num_answers = options_.num_answers,
                                                               .curriculum = options_.curriculum,
                                                               .carry_over = options_.carry_over,
                                                               .seed = options_.seed});
  if (options_.replay.on()) replay_ = std::make_shared<ModeReplay>(options_.replay, parts_.examples.size());
  weights_ = parts_.objective.start_weights();
  options_.sampling.samples_per_prompt = options_.samples_per_prompt;
}

StepReport RlTrainer::step() {
  Stopwatch watch, total;
  auto last = std::make_shared<LastStep>();
  MetricMap metrics;

  sample(*last);
  last->judged.reset();
  pay_kl(*last);
  estimate_values(*last);
  credit(*last);
  metrics["time/generate_s"] = last->generate_s;
  metrics["time/score_s"] = watch.lap_s() - last->generate_s;
  metrics.merge(update(*last));
  metrics["time/update_s"] = watch.lap_s();

  // Only now: a step that throws (Ctrl-C while sampling, a bad reward) leaves the trainer as it was.
  last_ = std::move(last);
  if (replay_) last_->fresh_modes = replay_->finish_step(example_of_row(*last_), last_->rollout.rows, last_->answers);
  source_->finish_step(step_, last_->use);
  ++step_;
  if (moving_reference_) moving_reference_->after_step(step_);
  steer_weights(metrics);
  return report(std::move(metrics), total.lap_s());
}

void RlTrainer::sample(LastStep& s) const {
  take_carried(s);
  int64_t wanted = options_.prompts_per_step - s.groups();
  for (;;) {
    draw_prompts(s, wanted);
    generate(s);
    parse(s);
    score(s);
    note_pass_rates(s, wanted);
    if (options_.max_refills == 0) return;
    const Tensor teaching = teaching_groups(s);
    const int64_t missing = options_.prompts_per_step - teaching.sum().item<int64_t>();
    if (missing <= 0 || s.refills == options_.max_refills) return keep_wanted(s, teaching);
    // Nothing is learned from the others: other prompts take their places.
    ++s.refills;
    s.keep(teaching);
    wanted = static_cast<int64_t>(std::ceil(options_.refill_factor * static_cast<double>(missing)));
  }
}

// Groups of earlier steps come first: they are the next to grow too old.
void RlTrainer::take_carried(LastStep& s) const {
  s.rollout.samples_per_prompt = options_.samples_per_prompt;
  for (const SampledGroup& group : source_->carried(options_.prompts_per_step)) {
    s.prompts.push_back(group.prompt);
    s.num_answers.push_back(group.num_answers);
    s.older_policy.push_back(1);
    s.rollout.prompts.push_back(group.prompt);
    for (const Completion& row : group.rows) {
      s.examples.push_back(&parts_.examples[group.example]);
      s.rollout.rows.push_back(row);
      s.texts.push_back(row.text);
    }
    ++s.use.carried;
  }
}

void RlTrainer::draw_prompts(LastStep& s, int64_t prompts) const {
  for (const PromptDraw& draw : source_->draw(step_, s.use.drawn, prompts)) {
    const Example& example = parts_.examples[draw.example];
    s.prompts.push_back(prompt_ids(example, parts_.format, draw.num_answers, parts_.tokenizer));
    s.num_answers.push_back(draw.num_answers);
    s.older_policy.push_back(0);
    check_fits_context(example, static_cast<int64_t>(s.prompts.back().size()), 0, parts_.policy);
    s.examples.insert(s.examples.end(), options_.samples_per_prompt, &example);
    ++s.use.drawn;
  }
}

// Completions of the prompts that have none yet.
void RlTrainer::generate(LastStep& s) const {
  const size_t done = s.rollout.prompts.size();
  const std::span prompts = std::span(s.prompts).subspan(done);
  const int64_t drawn_before = s.use.drawn - static_cast<int64_t>(prompts.size());
  const RolloutKey key{options_.seed, static_cast<uint64_t>(step_),
                       static_cast<uint64_t>(drawn_before * options_.samples_per_prompt)};
  Stopwatch watch;
  RolloutBatch fresh = generate_and_hand_over(s, prompts, key);
  s.generate_s += watch.lap_s();
  s.rollout.prompts.insert(s.rollout.prompts.end(), prompts.begin(), prompts.end());
  for (Completion& row : fresh.rows) {
    s.texts.push_back(row.text);
    s.rollout.rows.push_back(std::move(row));
  }
  PLURAL_CHECK(s.rollout.rows.size() == s.examples.size(), "the engine must return P * G rows");
}

// Sets the slow rewards to work on the rows that are there. Those that they judged in an earlier round of the step they
// are not asked about again.
void RlTrainer::begin_slow_rewards(LastStep& s) const {
  const auto parse = [this](std::span<const CompletionView> views, const std::stop_token& stop) {
    return parse_rows(views, at::kCPU, stop);
  };
  if (!s.judged) s.judged = std::make_shared<SlowMemory>();
  s.slow = std::make_unique<SlowScoring>(parts_.rewards, parse,
                                         SlowScoring::Step(reward_input(s, options_.samples_per_prompt)), s.judged);
  const auto group = static_cast<size_t>(options_.samples_per_prompt);
  for (size_t p = 0; p < s.rollout.prompts.size(); ++p)
    s.hand_over(p, std::span<const Completion>(s.rollout.rows).subspan(p * group, group));
}

// Generates, and gives every group to the slow rewards as soon as it is complete; those of earlier rounds at once.
RolloutBatch RlTrainer::generate_and_hand_over(LastStep& s, std::span<const std::vector<TokenId>> prompts,
                                               const RolloutKey& key) const {
  if (!parts_.rewards.has_slow()) return parts_.engine.generate(prompts, options_.sampling, key);
  const auto group = static_cast<size_t>(options_.samples_per_prompt);
  const size_t done = s.rollout.prompts.size();
  begin_slow_rewards(s);
  std::vector<bool> handed_over(prompts.size(), false);
  struct Forget {  // the callback refers to this call
    RolloutEngine& engine;
    ~Forget() { engine.set_group_done({}); }
  } forget{parts_.engine};
  parts_.engine.set_group_done([&](int64_t p, std::span<const Completion> rows) {
    s.hand_over(done + static_cast<size_t>(p), rows);
    handed_over[static_cast<size_t>(p)] = true;
  });
  RolloutBatch fresh = parts_.engine.generate(prompts, options_.sampling, key);
  PLURAL_CHECK(fresh.rows.size() == prompts.size() * group, "the engine must return P * G rows");
  for (size_t p = 0; p < prompts.size(); ++p)
    if (!handed_over[p]) s.hand_over(done + p, std::span<const Completion>(fresh.rows).subspan(p * group, group));
  return fresh;
}

AnswerBatch RlTrainer::parse_rows(std::span<const CompletionView> views, at::Device device,
                                  const std::stop_token& stop) const {
  return build_answer_batch(views, parts_.format, parts_.matcher, &parts_.tokenizer, device, at::kFloat, stop);
}

void RlTrainer::parse(LastStep& s) const {
  std::vector<CompletionView> views;
  for (size_t b = 0; b < s.examples.size(); ++b)
    views.push_back({s.examples[b], s.texts[b], s.rollout.rows[b].ids, s.num_answers[b / s.group_size()]});
  s.answers = parse_rows(views, parts_.policy.device(), options_.stop);
  // Made anew at each step: it remembers what these weights said.
  s.policy_embedder = make_policy_embedder(parts_.policy, parts_.tokenizer);
}

void RlTrainer::score(LastStep& s) const {
  s.token_entropy = completion_entropy(s);
  if (!s.slow && parts_.rewards.has_slow()) begin_slow_rewards(s);
  s.rewards = parts_.rewards.score(reward_input(s, options_.samples_per_prompt), s.slow.get());
  s.slow.reset();
}

// What the last `fresh` prompts reached, for the curriculum. Groups of earlier steps were noted when they were sampled.
void RlTrainer::note_pass_rates(LastStep& s, int64_t fresh) const {
  const std::string& measure = options_.curriculum.measure;
  if (!options_.curriculum.on()) return;
  Tensor reached;  // [B]
  if (measure == "reward")
    reached = s.rewards.total;
  else if (measure == "coverage")
    reached = s.answers.first_hit().sum(1) / s.answers.k;
  else
    reached = s.answers.match.ge(0).any(1);
  const Tensor rate = host(reached).view({-1, options_.samples_per_prompt}).mean(1);
  for (int64_t p = rate.size(0) - fresh; p < rate.size(0); ++p) {
    const Example* example = s.examples[static_cast<size_t>(p * options_.samples_per_prompt)];
    if (const double value = rate[p].item<double>(); std::isfinite(value))
      s.use.pass_rates.emplace_back(example - parts_.examples.data(), value);
  }
}

// [P] bool on the host: the groups that something is learned from.
Tensor RlTrainer::teaching_groups(LastStep& s) const {
  if (!parts_.advantage.credits_equal_rewards()) return varied_groups(s.rewards.total, options_.samples_per_prompt);
  credit(s);
  const Tensor advantage = s.advantage.token.defined() ? s.sum_by_row(host(s.advantage.token).abs().to(at::kFloat))
                                                       : host(s.advantage.row).abs();
  s.advantage = {};
  return advantage.view({-1, options_.samples_per_prompt}).gt(0).any(1);
}

// Of more groups than a step needs, those that something is learned from stay, in order; spare ones of these are for
// later steps.
void RlTrainer::keep_wanted(LastStep& s, const Tensor& teaching) const {
  const int64_t groups = s.groups(), wanted = options_.prompts_per_step;
  if (groups == wanted) return;
  const Tensor rank = at::where(teaching, teaching.cumsum(0), teaching.sum() + teaching.logical_not().cumsum(0));
  const Tensor stays = rank <= wanted;
  const auto group = static_cast<size_t>(options_.samples_per_prompt);
  for (int64_t p = 0; p < groups && options_.carry_over.max_groups > 0; ++p) {
    if (stays[p].item<bool>() || !teaching[p].item<bool>()) continue;
    const size_t place = static_cast<size_t>(p), first = place * group;
    SampledGroup spare{s.examples[first] - parts_.examples.data(), s.num_answers[place], step_, s.prompts[place], {}};
    for (size_t b = first; b < first + group; ++b) spare.rows.push_back(s.rollout.rows[b]);
    s.use.spare.push_back(std::move(spare));
  }
  s.keep(stays);
  parse(s);
  score(s);
}

// [B, T] nats, or undefined where no reward asks for it.
Tensor RlTrainer::completion_entropy(const LastStep& s) const {
  if (!parts_.rewards.needs_token_entropy()) return {};
  return token_entropy(parts_.policy, s.pack_rows(), options_.sampling.temperature, options_.max_batch_tokens);
}

RewardInput RlTrainer::reward_input(const LastStep& s, int64_t samples_per_prompt) const {
  return {.answers = s.answers,
          .examples = s.examples,
          .completions = s.texts,
          .samples_per_prompt = samples_per_prompt,
          .step = step_,
          .steps = options_.steps,
          .max_new_tokens = options_.sampling.max_new_tokens,
          .vocab_size = parts_.policy.vocab_size(),
          .token_entropy = s.token_entropy,
          .policy_embedder = s.policy_embedder.get()};
}

// Takes beta x the KL of a row (k1, summed over its tokens) off what it is paid. The sampler's log-probs are the
// policy's, or those of the policy of the step that a group was kept from.
void RlTrainer::pay_kl(LastStep& s) const {
  if (!parts_.objective.needs().kl_in_reward) return;
  const Tensor reference = row_log_probs(*parts_.reference, s.pack_rows(), options_.max_batch_tokens,
                                         options_.sampling.temperature);
  const Tensor kl = s.sampled_log_probs() - reference;  // [M]
  s.rewards.total = s.rewards.total - weights_.kl * s.sum_by_row(kl).to(s.rewards.total.device());
  s.token_reward = (-weights_.kl * kl).to(s.rewards.total.device());
  // The log shows what is credited.
  const Tensor paid = s.rewards.total.to(at::kCPU, at::kDouble);
  s.rewards.metrics["reward/total/mean"] = paid.mean().item<double>();
  s.rewards.metrics["reward/total/std"] = paid.numel() > 1 ? paid.std().item<double>() : 0.0;
  s.kl_ref = kl.to(at::kDouble).mean().item<double>();
  s.kl_measured = true;
}

// [P]: what the greedy completion of each prompt is paid.
Tensor RlTrainer::score_greedy(const LastStep& s) const {
  LastStep greedy;
  SamplingOptions sampling = options_.sampling;
  sampling.samples_per_prompt = 1;
  sampling.temperature = 0;
  greedy.rollout = parts_.engine.generate(s.prompts, sampling, {options_.seed, static_cast<uint64_t>(step_), 0});
  for (size_t p = 0; p < s.prompts.size(); ++p) {
    greedy.examples.push_back(s.examples[p * static_cast<size_t>(options_.samples_per_prompt)]);
    greedy.texts.push_back(greedy.rollout.rows[p].text);
  }
  greedy.prompts = s.prompts;
  greedy.num_answers = s.num_answers;
  parse(greedy);
  greedy.token_entropy = completion_entropy(greedy);
  return parts_.rewards.score(reward_input(greedy, 1)).total;
}

void RlTrainer::estimate_values(LastStep& s) const {
  if (!parts_.critic) return;
  s.value = row_values(*parts_.critic, s.pack_rows(), options_.max_batch_tokens).to(s.rewards.total.device());
}

void RlTrainer::credit(LastStep& s) const {
  const RewardInput scored = reward_input(s, options_.samples_per_prompt);
  AdvantageInput input = credit_input(parts_.rewards, scored, s.rewards);
  if (parts_.advantage.needs_greedy()) input.greedy_total = score_greedy(s);
  const at::Device device = s.rewards.total.device();
  input.sampler_log_prob = s.sum_by_row(s.sampled_log_probs()).to(device);
  if (parts_.advantage.corrects_off_policy())
    input.log_prob = s.sum_by_row(row_log_probs(parts_.policy, s.pack_rows(), options_.max_batch_tokens,
                                                options_.sampling.temperature))
                         .to(device);
  input.value = s.value;
  input.token_reward = s.token_reward;
  s.advantage = parts_.advantage.estimate(input);
}

std::vector<int64_t> RlTrainer::example_of_row(const LastStep& s) const {
  std::vector<int64_t> examples;
  for (const Example* example : s.examples) examples.push_back(example - parts_.examples.data());
  return examples;
}

MetricMap RlTrainer::update(LastStep& s) const {
  const Tensor advantage = host(s.advantage.row);
  const Tensor token_advantage = s.advantage.token.defined() ? host(s.advantage.token) : Tensor();
  const Tensor value = parts_.critic ? host(s.value) : Tensor();
  const Tensor returns = parts_.critic ? host(s.advantage.returns) : Tensor();
  const bool drop_truncated = parts_.objective.needs().drop_truncated;
  // Who weighs completions of an older policy: the advantage, the objective's importance, or else the ratio.
  const bool by_ratio = !parts_.advantage.corrects_off_policy() && !parts_.objective.needs().sampler;
  std::vector<UpdateRow> rows;
  size_t begin = 0;
  for (size_t b = 0; b < s.rollout.rows.size(); ++b) {
    const Completion& row = s.rollout.rows[b];
    UpdateRow next;
    next.ids = {s.prompts[b / static_cast<size_t>(options_.samples_per_prompt)], row.ids};
    next.sampler_log_probs = row.log_probs;
    next.advantage = values(advantage)[b];
    if (token_advantage.defined()) next.token_advantage = values(token_advantage).subspan(begin, row.ids.size());
    if (parts_.critic) {
      next.value = values(value).subspan(begin, row.ids.size());
      next.returns = values(returns).subspan(begin, row.ids.size());
    }
    next.older_policy = by_ratio && s.older_policy[b / s.group_size()] != 0;
    next.counts = !(drop_truncated && row.finish == FinishReason::kLength);
    begin += row.ids.size();
    rows.push_back(next);
  }
  const ReplayedRows replayed = replayed_rows(s);
  s.replayed = static_cast<int64_t>(replayed.rows.size());
  const double learning_rate = parts_.optimizer.options().learning_rate *
                               schedule_factor(parts_.optimizer.options(), step_, options_.steps);
  double critic_learning_rate = 0;
  if (parts_.critic) {
    const OptimizerOptions& critic = parts_.critic->optimizer().options();
    critic_learning_rate = critic.learning_rate * schedule_factor(critic, step_, options_.steps);
  }
  MetricMap metrics = update_policy(
      {parts_.policy, parts_.reference, parts_.objective, parts_.optimizer, parts_.critic}, rows,
      {.passes = options_.passes,
       .max_batch_tokens = options_.max_batch_tokens,
       .max_new_tokens = options_.sampling.max_new_tokens,
       .temperature = options_.sampling.temperature,
       .learning_rate = learning_rate,
       .critic_learning_rate = critic_learning_rate,
       .critic_only = parts_.critic && parts_.critic->warming_up(step_),
       .weights = weights_},
      replayed.rows);
  metrics["optim/learning_rate"] = learning_rate;
  if (parts_.critic) metrics["value/learning_rate"] = critic_learning_rate;
  return metrics;
}

// What replay adds to the loss: a mean over the step's prompts, over the modes of each, and over the tokens of a mode.
RlTrainer::ReplayedRows RlTrainer::replayed_rows(const LastStep& s) const {
  ReplayedRows replayed;
  if (!replay_) return replayed;
  const std::vector<int64_t> examples = example_of_row(s);
  for (size_t p = 0; p < s.prompts.size(); ++p) {
    const int64_t example = examples[p * static_cast<size_t>(options_.samples_per_prompt)];
    const std::vector<const Exemplar*> turn = replay_->turn(example);
    for (const Exemplar* exemplar : turn) {
      const double tokens = static_cast<double>(std::ranges::count(exemplar->scored, 1));
      const double share = replay_->weight() / static_cast<double>(s.prompts.size() * turn.size()) / tokens;
      std::vector<double> weight;
      for (const uint8_t scored : exemplar->scored) weight.push_back(scored != 0 ? share : 0.0);
      replayed.prompts.push_back(
          prompt_ids(parts_.examples[example], parts_.format, exemplar->num_answers, parts_.tokenizer));
      replayed.rows.push_back({{replayed.prompts.back(), exemplar->ids}, std::move(weight)});
    }
  }
  return replayed;
}

// Logs the weights of this step and lets the objective's controllers choose those of the next.
void RlTrainer::steer_weights(MetricMap& metrics) {
  const ObjectiveNeeds needs = parts_.objective.needs();
  if (last_->kl_measured) metrics["policy/kl_ref"] = last_->kl_ref;
  if (needs.reference || needs.kl_in_reward) metrics["objective/kl_weight"] = weights_.kl;
  if (needs.entropy) metrics["objective/entropy_weight"] = weights_.entropy;
  const auto entropy = metrics.find("policy/entropy");
  if (entropy == metrics.end()) return;  // a step without an update has measured nothing
  const auto kl = metrics.find("policy/kl_ref");
  weights_ = parts_.objective.next_weights(weights_, {.kl = kl == metrics.end() ? 0.0 : kl->second,
                                                      .entropy = entropy->second,
                                                      .rows = static_cast<double>(last_->examples.size())});
}

StepReport RlTrainer::report(MetricMap metrics, double seconds) const {
  const LastStep& s = *last_;
  for (const auto& [name, value] : s.rewards.metrics) metrics[name] = value;
  metrics.merge(credit_metrics(s.rewards.total, s.advantage, s.answers.length, options_.samples_per_prompt));
  if (options_.max_refills > 0) {
    metrics["rollout/refills"] = static_cast<double>(s.refills);
    metrics["rollout/prompts_drawn"] = static_cast<double>(s.use.drawn);
  }
  if (options_.carry_over.max_groups > 0) {
    metrics["rollout/carried_groups"] = static_cast<double>(s.use.carried);
    metrics["rollout/spare_groups"] = static_cast<double>(s.use.spare.size());
  }
  metrics.merge(source_->metrics());
  if (replay_) {
    metrics["replay/rows"] = static_cast<double>(s.replayed);
    metrics["replay/modes"] = static_cast<double>(replay_->modes());
    metrics["replay/new_modes"] = static_cast<double>(s.fresh_modes);
  }
  metrics.merge(answer_metrics(s.answers));
  metrics.merge(rollout_metrics(s.rollout));
  metrics["time/step_s"] = seconds;
  metrics["rate/tokens_per_s"] = metrics["rollout/tokens"] / seconds;
  for (const auto& [name, value] : s.answers.match_metrics) metrics["match/" + name] = value;
  StepReport report{step_, std::move(metrics), s.rewards.problems};
  if (!s.answers.match_problem.empty()) report.notes.push_back("matcher: " + s.answers.match_problem);
  return report;
}

void RlTrainer::visit_rows(const std::function<void(const RowRecord&)>& visit) const {
  if (!last_) return;
  const LastStep& s = *last_;
  const Tensor total = host(s.rewards.total), advantage = host(s.advantage.row);
  const Tensor match = s.answers.match.to(at::kCPU).contiguous();
  std::vector<Tensor> scores, valid;
  for (const RewardOutput& part : s.rewards.parts) {
    scores.push_back(host(part.row));
    valid.push_back(part.valid.defined() ? host(part.valid) : at::ones_like(scores.back()));
  }
  for (size_t b = 0; b < s.examples.size(); ++b) {
    RowRecord record;
    record.example = s.examples[b];
    record.completion = &s.rollout.rows[b];
    record.answers = &s.answers.sets[b];
    const auto* first = match.const_data_ptr<int64_t>() + static_cast<int64_t>(b) * s.answers.slots;
    record.match.assign(first, first + record.answers->answers.size());
    record.total = values(total)[b];
    record.advantage = values(advantage)[b];
    for (size_t i = 0; i < scores.size(); ++i)
      if (values(valid[i])[b] != 0) record.rewards.emplace_back(parts_.rewards.terms()[i].name, values(scores[i])[b]);
    visit(record);
  }
}

TrainState RlTrainer::state() const {
  TrainState state = collect_state(step_, source_->position(), parts_.policy, parts_.optimizer);
  state.numbers = {{"kl_weight", weights_.kl},
                   {"entropy_weight", weights_.entropy},
                   {"entropy_weight_ready", weights_.entropy_ready}};
  source_->add_state(state.memory);
  if (replay_) replay_->add_state(state.memory);
  if (parts_.critic) {
    add_entries(state.parameters, kCritic, parts_.critic->named_parameters());
    add_entries(state.optimizer, kCritic, parts_.critic->optimizer().state());
  }
  if (moving_reference_) add_entries(state.parameters, kReference, moving_reference_->state());
  return state;
}

void RlTrainer::restore(const TrainState& saved) {
  TrainState state = saved;
  source_->restore(state.data_position, state.memory);
  if (replay_) replay_->restore(state.memory);
  if (parts_.critic) {
    restore_parameters(take_entries(state.parameters, kCritic), parts_.critic->named_parameters(),
                       "checkpoint: critic");
    parts_.critic->optimizer().load_state(take_entries(state.optimizer, kCritic));
  }
  if (moving_reference_) moving_reference_->restore(take_entries(state.parameters, kReference));
  restore_state(state, parts_.policy, parts_.optimizer);
  step_ = state.step;
  const auto number = [&](const char* name, double otherwise) {
    const auto it = state.numbers.find(name);
    return it == state.numbers.end() ? otherwise : it->second;
  };
  const ObjectiveWeights first = parts_.objective.start_weights();
  weights_ = {number("kl_weight", first.kl), number("entropy_weight", first.entropy),
              number("entropy_weight_ready", first.entropy_ready)};
  last_.reset();
}

}  // namespace plural
