// SPDX-License-Identifier: Apache-2.0
// A reward of one's own, and three steps of reinforcement learning with it. The model is tiny and
// starts from random weights, so that the program runs in seconds; only the tokenizer comes from a
// file.
#include <ATen/ATen.h>
#include <plural/plural.h>

#include <algorithm>
#include <cstdio>
#include <exception>
#include <memory>
#include <string>
#include <vector>

namespace {

struct PlainWordsOptions {
  double target = 1.0;

  // One line makes the option readable from YAML, checked, and listed by `plural config`.
  using config_struct = void;
  template <class V>
  void fields(V& v) {
    v.field("target", target, plural::between(0, 1), "share of letters and spaces that earns the full reward");
  }
};

/// Pays for completions made of letters and spaces: min(1, share / target).
class PlainWords final : public plural::Reward {
 public:
  explicit PlainWords(PlainWordsOptions options) : options_(options) {}

  std::string name() const override { return "plain_words"; }
  std::string formula() const override { return "min(1, share of letters and spaces / target)"; }

  plural::RewardOutput score(const plural::RewardInput& input) const override {
    std::vector<float> values;
    for (const std::string& text : input.completions) {
      double plain = 0;
      for (const char c : text) plain += c == ' ' || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
      const double share = text.empty() ? 0.0 : plain / static_cast<double>(text.size());
      values.push_back(static_cast<float>(std::min(1.0, share / std::max(options_.target, 1e-6))));
    }
    // [B], on the device of everything else.
    return {.row = at::tensor(values).to(input.answers.format_ok.device())};
  }

 private:
  PlainWordsOptions options_;
};

plural::TransformerConfig tiny_model(int64_t vocab_size) {
  plural::TransformerConfig config;
  config.model_type = "llama";
  config.vocab_size = vocab_size;
  config.width = 32;
  config.mlp_width = 64;
  config.layers = 2;
  config.heads = 4;
  config.kv_heads = 2;
  config.head_size = 8;
  config.context_length = 512;
  config.tied_embeddings = true;
  return config;
}

int run(const char* tokenizer_dir) {
  const auto tokenizer = plural::Tokenizer::load(tokenizer_dir);
  const auto policy = plural::TransformerPolicy::init(tiny_model(tokenizer.vocab_size()),
                                                      /*seed=*/1, at::kCPU, at::kFloat);
  const auto engine = plural::make_local_engine(*policy, tokenizer);
  const std::vector<plural::Example> examples = {
      plural::parse_example(R"({"id": "1", "prompt": "Name fruits.", "gold": ["apple", "pear", "plum"]})", "main.cpp"),
      plural::parse_example(R"({"id": "2", "prompt": "Name colours.", "gold": ["red", "blue"]})", "main.cpp"),
  };

  // By name beside the bundled rewards; a YAML file given to plural::run_training could name it
  // now, too.
  auto registry = plural::builtin_rewards();
  registry.add(
      "plain_words", "share of letters and spaces",
      [](const plural::ConfigNode& options) {
        return std::make_unique<PlainWords>(plural::read_options<PlainWordsOptions>(options));
      },
      plural::describe_options<PlainWordsOptions>());
  plural::RewardStack rewards;
  rewards.add(registry.make("plain_words", plural::parse_yaml("target: 1.0", "main.cpp")), 1.0);
  rewards.add(registry.make("format"), 0.5);
  std::printf("%s\n", rewards.formula().c_str());

  const auto format = plural::make_answer_format("compact");
  const auto matcher = plural::make_matcher("alias");
  const auto advantage = plural::builtin_advantages().make("grpo");
  const auto objective = plural::make_policy_gradient({});
  plural::AdamW optimizer(policy->named_parameters(), {.learning_rate = 1e-3});

  plural::RlOptions options;
  options.steps = 3;
  options.prompts_per_step = 2;
  options.samples_per_prompt = 8;
  options.num_answers = {2};
  options.sampling.max_new_tokens = 16;
  plural::RlTrainer trainer({.policy = *policy,
                             .engine = *engine,
                             .tokenizer = tokenizer,
                             .examples = examples,
                             .format = *format,
                             .matcher = *matcher,
                             .rewards = rewards,
                             .advantage = *advantage,
                             .objective = *objective,
                             .optimizer = optimizer},
                            options);
  while (!trainer.done()) {
    const plural::StepReport report = trainer.step();
    const double value = report.metrics.at("reward/plain_words/mean");
    std::printf("step %lld  plain_words %.3f\n", static_cast<long long>(report.step), value);
    if (!(value >= 0 && value <= 1)) return 1;
  }
  return optimizer.steps() == 3 ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: custom_reward FOLDER_WITH_TOKENIZER_JSON\n");
    return 2;
  }
  try {
    return run(argv[1]);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "custom_reward: %s\n", error.what());
    return 1;
  }
}
