// SPDX-License-Identifier: Apache-2.0
// Multi-answer GRPO in one file: read it from top to bottom.
//
//   minimal_grpo MODEL_DIR DATA.jsonl [steps]
//
// A step takes P prompts, samples G completions of each, reads every completion as K answers with confidences,
// scores the set, compares each completion with the others of its prompt, and moves the policy once. The library
// gives the pieces (policy, sampler, parser, matcher, optimiser); reward, advantage and loss are written out here.
// plural::RlTrainer (lib/train/rl_trainer.cpp) is this loop with micro-batches, metrics and resume.
#include <ATen/ATen.h>

#include <cstdio>
#include <cstdlib>
#include <exception>

#include "plural/answers.h"
#include "plural/dataset.h"
#include "plural/error.h"
#include "plural/optimizer.h"
#include "plural/rollout.h"
#include "plural/tokenizer.h"
#include "plural/transformer.h"

using at::Tensor;

namespace {

// ---- settings -------------------------------------------------------------------------------------------------------
constexpr int64_t kPrompts = 4;  // P: prompts of a step
constexpr int64_t kSamples = 8;  // G: completions of each prompt
constexpr int64_t kAnswers = 3;  // K: answers in each completion
constexpr int64_t kMaxNewTokens = 80;
constexpr double kTemperature = 1.0;
constexpr double kLearningRate = 1e-5;
constexpr uint64_t kSeed = 1;

// Which numbers a step prints.
struct StepNumbers {
  double reward = 0, coverage = 0, format = 0, grad_norm = 0;
};

// The P * G rows of a step, group-major: row p * G + g is sample g of prompt p.
struct Rollout {
  std::vector<const plural::Example*> examples;  // B = P * G
  plural::RolloutBatch batch;
};

class MinimalGrpo {
 public:
  MinimalGrpo(const char* model_dir, const char* data_file)
      : policy_(plural::TransformerPolicy::load(model_dir, at::kCPU, at::kBFloat16)),
        tokenizer_(plural::Tokenizer::load(model_dir)),
        examples_(plural::load_dataset(data_file)),
        order_(static_cast<int64_t>(examples_.size()), kSeed),
        format_(plural::make_answer_format("compact")),
        matcher_(plural::make_matcher("alias")),
        engine_(plural::make_local_engine(*policy_, tokenizer_)),  // samples from the very tensors that are trained
        optimizer_(policy_->named_parameters(), plural::OptimizerOptions{}) {}

  StepNumbers step(int64_t number) {
    const Rollout rollout = generate(number);
    const plural::AnswerBatch answers = parse(rollout);
    const Tensor reward = score(answers);
    const Tensor advantage = credit(reward);

    loss(rollout, advantage).backward();
    const plural::StepResult result = optimizer_.step(kLearningRate);

    return {.reward = mean(reward),
            .coverage = mean(answers.first_hit().sum(1) / kAnswers),
            .format = mean(answers.format_ok),
            .grad_norm = result.grad_norm};
  }

 private:
  // ---- generate: prompts -> completions with the log-probs they were sampled with -----------------------------------
  Rollout generate(int64_t number) {
    Rollout rollout;
    std::vector<std::vector<plural::TokenId>> prompts;
    for (int64_t p = 0; p < kPrompts; ++p) {
      const plural::Example& example = examples_[order_.at(number * kPrompts + p).example];
      // The format appends its instruction ("Give 3 answers ...") to the question.
      prompts.push_back(tokenizer_.encode_chat(plural::render_prompt(example.prompt, *format_, kAnswers)));
      rollout.examples.insert(rollout.examples.end(), kSamples, &example);
    }
    plural::SamplingOptions sampling;
    sampling.samples_per_prompt = kSamples;
    sampling.max_new_tokens = kMaxNewTokens;
    sampling.temperature = kTemperature;
    // Random streams are keyed by (seed, step, row): the same numbers whatever the batching.
    rollout.batch = engine_->generate(prompts, sampling, {kSeed, static_cast<uint64_t>(number), 0});
    return rollout;
  }

  // ---- parse: completions -> sets of answers as tensors [B, K] ------------------------------------------------------
  plural::AnswerBatch parse(const Rollout& rollout) const {
    std::vector<plural::CompletionView> views;
    for (size_t b = 0; b < rollout.examples.size(); ++b) {
      const plural::Completion& row = rollout.batch.rows[b];
      views.push_back({rollout.examples[b], row.text, row.ids, kAnswers});
    }
    return plural::build_answer_batch(views, *format_, *matcher_, &tokenizer_, policy_->device());
  }

  // ---- score: a set is worth its coverage, less the Brier score of its confidences ----------------------------------
  static Tensor score(const plural::AnswerBatch& answers) {
    const Tensor format = answers.format_ok.to(at::kFloat);                  // [B] 1 where the format was kept
    const Tensor coverage = answers.first_hit().sum(1) / kAnswers;           // [B] different gold answers hit / K
    const Tensor error = (answers.confidence - answers.correct()).square();  // [B, K] (q - z)^2
    const Tensor brier = error.sum(1) / kAnswers;                            // [B]
    return 0.5 * format + format * (coverage - brier);                       // [B]
  }

  // ---- credit: better or worse than the other completions of the same prompt (GRPO without std) ---------------------
  static Tensor credit(const Tensor& reward) {
    const Tensor groups = reward.view({kPrompts, kSamples});
    return (groups - groups.mean(1, /*keepdim=*/true)).flatten();  // [B]
  }

  // ---- loss: mean over tokens of -ratio * advantage -----------------------------------------------------------------
  Tensor loss(const Rollout& rollout, const Tensor& advantage) {
    // Packed: no padding, and a prompt that neighbours share stands in the batch once.
    std::vector<plural::PackRow> rows;
    std::vector<int64_t> lengths;
    for (size_t b = 0; b < rollout.examples.size(); ++b) {
      rows.push_back({rollout.batch.prompts[b / kSamples], rollout.batch.rows[b].ids});
      lengths.push_back(static_cast<int64_t>(rollout.batch.rows[b].ids.size()));
    }
    const plural::PackedBatch batch = plural::pack_rows(rows).to(policy_->device());
    const Tensor log_prob = policy_->evaluate(batch, {.temperature = kTemperature}).log_prob;  // [M], with gradient
    const Tensor row = at::repeat_interleave(at::tensor(lengths, at::kLong)).to(policy_->device());
    // One update a batch: the policy is the one that sampled, so the ratio is 1 and only its gradient matters. With
    // more updates, clamp it: min(ratio * A, clip(ratio, 0.8, 1.28) * A).
    const Tensor ratio = (log_prob - log_prob.detach()).exp();
    return -(ratio * advantage.index_select(0, row)).mean();
  }

  static double mean(const Tensor& x) { return x.to(at::kDouble).mean().item<double>(); }

  std::unique_ptr<plural::TransformerPolicy> policy_;
  plural::Tokenizer tokenizer_;
  std::vector<plural::Example> examples_;
  plural::DataOrder order_;
  std::unique_ptr<plural::AnswerFormat> format_;
  std::unique_ptr<plural::Matcher> matcher_;
  std::unique_ptr<plural::RolloutEngine> engine_;
  plural::AdamW optimizer_;
};

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3 || argc > 4) {
    std::fprintf(stderr, "usage: minimal_grpo MODEL_DIR DATA.jsonl [steps]\n");
    return 2;
  }
  const long steps = argc == 4 ? std::strtol(argv[3], nullptr, 10) : 20;
  try {
    MinimalGrpo grpo(argv[1], argv[2]);
    for (long i = 0; i < steps; ++i) {
      const StepNumbers n = grpo.step(i);
      std::printf("step %ld  reward %.3f  coverage %.3f  format %.2f  grad norm %.3g\n", i + 1, n.reward, n.coverage,
                  n.format, n.grad_norm);
      std::fflush(stdout);
    }
  } catch (const plural::Error& error) {
    std::fprintf(stderr, "minimal_grpo: %s\n", error.what());
    return error.exit_code();
  } catch (const std::exception& error) {
    std::fprintf(stderr, "minimal_grpo: %s\n", error.what());
    return 1;
  }
  return 0;
}
