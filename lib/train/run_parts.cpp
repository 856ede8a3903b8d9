// SPDX-License-Identifier: Apache-2.0
#include "lib/train/run_parts.h"

#include <algorithm>
#include <functional>

#include "lib/core/format.h"
#include "lib/eval/sample_record.h"
#include "lib/eval/set_sampling.h"
#include "lib/train/prompts.h"
#include "plural/device.h"
#include "plural/error.h"
#include "plural/run.h"

namespace plural {
namespace {

at::ScalarType scalar_type(const std::string& name) { return name == "bfloat16" ? at::kBFloat16 : at::kFloat; }

std::vector<Example> load_examples(const std::string& file, int64_t limit) {
  std::vector<Example> examples = load_dataset(file);
  if (examples.empty()) throw InputError(fmt::format("{}: holds no examples", file));
  if (limit > 0 && limit < static_cast<int64_t>(examples.size())) examples.resize(static_cast<size_t>(limit));
  return examples;
}

std::vector<HeldOut> load_held_out(const EvaluationConfig& config) {
  std::vector<HeldOut> sets;
  const std::vector<std::string> names = eval::data_set_names(config.data);
  for (size_t i = 0; i < names.size(); ++i)
    sets.push_back({names.size() > 1 ? names[i] : "", config.data[i], load_examples(config.data[i], config.limit)});
  return sets;
}

SamplingOptions rl_sampling(const RunConfig& config) {
  SamplingOptions sampling = config.sampling;
  sampling.samples_per_prompt = config.samples_per_prompt;
  return sampling;
}

class RlRun final : public RunTrainer {
 public:
  RlRun(const RunConfig& config, RunParts& parts, std::stop_token stop)
      : parts_(parts),
        trainer_({*parts.policy, *parts.engine, parts.tokenizer, parts.examples, *parts.format, *parts.matcher,
                  parts.rewards, *parts.advantage, *parts.objective, *parts.optimizer, parts.reference.get(),
                  parts.critic.get()},
                 {.steps = config.steps,
                  .prompts_per_step = config.prompts_per_step,
                  .samples_per_prompt = config.samples_per_prompt,
                  .passes = config.passes,
                  .max_refills = config.max_refills,
                  .refill_factor = config.refill_factor,
                  .carry_over = config.carry_over,
                  .curriculum = config.curriculum,
                  .replay = config.replay,
                  .num_answers = config.num_answers,
                  .max_batch_tokens = config.max_batch_tokens,
                  .sampling = rl_sampling(config),
                  .seed = static_cast<uint64_t>(config.seed),
                  .reference_update = config.objective.reference_update,
                  .stop = std::move(stop)}) {}
  StepReport step() override { return trainer_.step(); }
  bool done() const override { return trainer_.done(); }
  TrainState state() const override { return trainer_.state(); }
  void restore(const TrainState& state) override { trainer_.restore(state); }

  std::string sample_lines(int64_t step) const override {
    std::string lines;
    trainer_.visit_rows([&](const RowRecord& row) {
      nlohmann::ordered_json record = {{"step", step}};
      record.update(eval::sample_record(*row.example, {row.completion, 1}, *row.answers, row.match, *parts_.matcher));
      auto rewards = nlohmann::ordered_json::object();
      for (const auto& [name, value] : row.rewards) rewards[name] = value;
      record["rewards"] = std::move(rewards);
      record["total"] = row.total;
      record["advantage"] = row.advantage;
      lines += eval::json_line(record);
    });
    return lines;
  }

 private:
  const RunParts& parts_;
  RlTrainer trainer_;
};

class SftRun final : public RunTrainer {
 public:
  SftRun(const RunConfig& config, RunParts& parts)
      : trainer_({*parts.policy, parts.tokenizer, parts.examples, *parts.format, *parts.optimizer},
                 {.steps = config.steps,
                  .rows_per_step = config.sft.rows_per_step,
                  .max_batch_tokens = config.max_batch_tokens,
                  .target = config.sft.target,
                  .num_answers = config.sft.num_answers,
                  .confidences = {.levels = config.sft.confidences,
                                  .source = config.sft.confidence_source,
                                  .power = config.sft.confidence_power},
                  .seed = static_cast<uint64_t>(config.seed)}) {}
  StepReport step() override { return trainer_.step(); }
  bool done() const override { return trainer_.done(); }
  TrainState state() const override { return trainer_.state(); }
  void restore(const TrainState& state) override { trainer_.restore(state); }
  std::string sample_lines(int64_t) const override { return ""; }

 private:
  SftTrainer trainer_;
};

}  // namespace

void check_tokenizer_fits(const Tokenizer& tokenizer, const Policy& policy, const std::string& model_dir) {
  if (tokenizer.vocab_size() <= policy.vocab_size()) return;
  throw InputError(
      fmt::format("{}: the tokenizer has {} ids, but the model's vocabulary holds only {}: they do "
                  "not belong together; "
                  "use the tokenizer.json that came with the model",
                  model_dir, tokenizer.vocab_size(), policy.vocab_size()));
}

std::string end_token_warning(const Tokenizer& tokenizer, const TransformerPolicy& policy,
                              const std::string& model_dir) {
  const std::optional<TokenId> own = tokenizer.eos_id();
  const std::vector<int64_t>& ids = policy.config().eos_ids;
  if (!own || ids.empty() || std::ranges::find(ids, *own) != ids.end()) return "";
  return fmt::format(
      "{}: the tokenizer's end token is {} (eos_token of tokenizer_config.json), but eos_token_id of "
      "generation_config.json or config.json is {}: completions end at any of them, and fine-tuning teaches the "
      "tokenizer's. If the tokenizer is not the model's own, use the one that came with it",
      model_dir, *own, fmt::join(ids, ", "));
}

namespace {

std::unique_ptr<Critic> build_critic(const RunConfig& config, RunParts& parts, at::Device device) {
  if (config.critic.trunk == "shared") return std::make_unique<Critic>(*parts.policy, config.critic);
  const std::string& model = config.critic.model.empty() ? config.model : config.critic.model;
  auto trunk = TransformerPolicy::load(model, device, scalar_type(config.dtype));
  check_tokenizer_fits(parts.tokenizer, *trunk, model);
  if (trunk->context_length() < parts.policy->context_length())
    throw InputError(
        fmt::format("critic.model: {} has a context of {} tokens and the policy one of {}; take a model with "
                    "at least as long a context",
                    model, trunk->context_length(), parts.policy->context_length()));
  auto critic = std::make_unique<Critic>(std::move(trunk), config.critic);
  if (std::filesystem::exists(Critic::head_file(model))) critic->load_head(model);
  return critic;
}

}  // namespace

std::unique_ptr<RunParts> build_run_parts(const RunConfig& config, const Registry<Reward>& rewards,
                                          const VariableLookup& variables) {
  const bool rl = config.task == "rl";
  // Names and options first: a misspelt reward is found before a model is loaded.
  auto format = make_answer_format(config.format);
  auto matcher = make_matcher(config.matcher.name, config.matcher.options, variables);
  RewardStack stack;
  std::unique_ptr<AdvantageEstimator> advantage;
  std::unique_ptr<Objective> objective;
  if (rl) {
    stack = build_reward_stack(config.rewards, rewards);
    advantage = builtin_advantages().make(config.advantage.name, config.advantage.options);
    objective = make_policy_gradient(config.objective);
    check_advantage_fits(*objective, *advantage);
    advantage->check_sizes(config.samples_per_prompt, std::ranges::max(config.num_answers));
    check_num_answers(*format, config.num_answers);
  }
  const at::Device device = parse_device(config.device);
  std::vector<Example> examples = load_examples(config.data.train, config.data.limit);
  std::vector<HeldOut> held_out;
  if (config.evaluation.every > 0) held_out = load_held_out(config.evaluation);

  auto parts = std::make_unique<RunParts>(
      RunParts{.tokenizer = Tokenizer::load(config.model),
               .examples = std::move(examples),
               .held_out = std::move(held_out),
               .format = std::move(format),
               .matcher = std::move(matcher),
               .policy = TransformerPolicy::load(config.model, device, scalar_type(config.dtype)),
               .reference = nullptr,
               .engine = nullptr,
               .rewards = std::move(stack),
               .advantage = std::move(advantage),
               .objective = std::move(objective),
               .optimizer = nullptr,
               .critic = nullptr});
  check_tokenizer_fits(parts->tokenizer, *parts->policy, config.model);
  if (rl && config.objective.uses_reference()) {
    if (config.reference.empty()) {
      parts->reference = parts->policy->frozen_copy();
    } else {
      parts->reference = TransformerPolicy::load(config.reference, device, scalar_type(config.dtype));
      check_tokenizer_fits(parts->tokenizer, *parts->reference, config.reference);
    }
  }
  parts->engine = make_local_engine(*parts->policy, parts->tokenizer);
  parts->optimizer = std::make_unique<AdamW>(parts->policy->named_parameters(), config.optimizer);
  if (rl && config.critic.used()) parts->critic = build_critic(config, *parts, device);
  return parts;
}

std::unique_ptr<RunTrainer> make_run_trainer(const RunConfig& config, RunParts& parts, std::stop_token stop) {
  if (config.task == "rl") return std::make_unique<RlRun>(config, parts, std::move(stop));
  return std::make_unique<SftRun>(config, parts);
}

namespace {

/// Tokens of the longest target that fine-tuning may draw for an example, its end token not counted.
int64_t longest_target(const Example& example, const SftConfig& sft, int64_t k, const RunParts& parts) {
  const auto tokens = [&](const std::string& text) {
    return static_cast<int64_t>(parts.tokenizer.encode(text).size());
  };
  int64_t longest = 0;
  if (sft.target == "responses") {
    for (const Response& response : example.responses) longest = std::max(longest, tokens(response.text));
    return longest;
  }
  std::vector<StatedAnswer> answers;
  for (const GoldAnswer& gold : example.gold)
    if (!normal_form(gold.answer).empty()) answers.push_back({gold.answer, sft.confidences.front()});
  std::ranges::stable_sort(answers, std::greater<>(), [](const StatedAnswer& answer) { return answer.text.size(); });
  answers.resize(std::min(answers.size(), static_cast<size_t>(k)));
  return tokens(parts.format->render(answers));
}

}  // namespace

int64_t check_prompt_lengths(const RunConfig& config, const RunParts& parts) {
  const bool sft = config.task == "sft", responses = sft && config.sft.target == "responses";
  const int64_t most = std::ranges::max(sft ? config.sft.num_answers : config.num_answers);
  const int64_t context = parts.policy->context_length();
  int64_t longest = 0, count = 0;
  std::string list;
  // Room for a target and its end token, or for the first token of an answer.
  const auto check = [&](const std::vector<Example>& examples, int64_t k, bool has_target, const std::string& file) {
    for (const Example& example : examples) {
      const auto prompt = static_cast<int64_t>(prompt_ids(example, *parts.format, k, parts.tokenizer).size());
      const int64_t target = has_target ? longest_target(example, config.sft, k, parts) : 0;
      longest = std::max(longest, prompt);
      if (prompt + target + 1 <= context) continue;
      if (++count <= 10)
        list += fmt::format("\n  {}: example '{}' has {} tokens{}", file, example.id, prompt,
                            target > 0 ? fmt::format(", and {} with its longest target", prompt + target) : "");
    }
  };
  check(parts.examples, responses ? 0 : most, sft, config.data.train);
  const int64_t eval_k = config.evaluation.num_answers > 0 ? config.evaluation.num_answers : config.num_answers[0];
  for (const HeldOut& set : parts.held_out) check(set.examples, eval_k, false, set.file);
  if (count > 0) {
    if (count > 10) list += fmt::format("\n  and {} more", count - 10);
    throw InputError(
        fmt::format("{} example{} not fit in the model's context of {} tokens (the answer format's instruction "
                    "included):{}\nshorten or remove them, or take a model with a longer context",
                    count, count == 1 ? " does" : "s do", context, list));
  }
  return longest;
}

}  // namespace plural
