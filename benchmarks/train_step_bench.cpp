// SPDX-License-Identifier: Apache-2.0
// Time of one on-policy GRPO step: P prompts x G samples x N new tokens, the same work as peers/trl_grpo.py.
// usage: train_step_bench MODEL_DIR PROMPTS.jsonl [dtype] [device] [samples] [new_tokens] [steps]
// Prints one JSON object.
#include <ATen/ATen.h>
#include <sys/resource.h>

#include <algorithm>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>

#include "plural/device.h"
#include "plural/trainer.h"
#include "plural/version.h"

namespace {

/// The reward of the TRL script: something that differs between the samples of a group and costs nothing.
class LengthModulo final : public plural::Reward {
 public:
  std::string name() const override { return "length_modulo"; }
  plural::RewardOutput score(const plural::RewardInput& input) const override {
    std::vector<float> values;
    for (const std::string& text : input.completions) values.push_back(static_cast<float>(text.size() % 7));
    return {.row = at::tensor(values).to(input.answers.format_ok.device())};
  }
};

}  // namespace

int main(int argc, char** argv) {
  plural::keep_freed_memory();
  if (argc < 3) {
    std::cerr << "usage: train_step_bench MODEL_DIR PROMPTS.jsonl [dtype] [device] [samples] [new_tokens] [steps]\n";
    return 2;
  }
  const auto argument = [&](int i, const char* fallback) { return std::string(argc > i ? argv[i] : fallback); };
  const at::ScalarType dtype = argument(3, "bfloat16") == "float32" ? at::kFloat : at::kBFloat16;
  const at::Device device = plural::parse_device(argument(4, "cpu"));
  const auto examples = plural::load_dataset(argv[2]);

  auto policy = plural::TransformerPolicy::load(argv[1], device, dtype);
  const auto tokenizer = plural::Tokenizer::load(argv[1]);
  auto engine = plural::make_local_engine(*policy, tokenizer);
  const auto format = plural::make_answer_format("compact");
  const auto matcher = plural::make_matcher("alias");
  plural::RewardStack rewards;
  rewards.add(std::make_unique<LengthModulo>());
  const auto advantage = plural::builtin_advantages().make("grpo");
  const auto objective = plural::make_policy_gradient({});
  plural::AdamW optimizer(policy->named_parameters(), {.learning_rate = 1e-6});

  plural::RlOptions options;
  options.steps = std::stoll(argument(7, "4"));
  options.prompts_per_step = static_cast<int64_t>(examples.size());
  options.samples_per_prompt = std::stoll(argument(5, "8"));
  options.sampling.max_new_tokens = std::stoll(argument(6, "48"));
  options.sampling.ignore_eos = true;
  plural::RlTrainer trainer(
      {*policy, *engine, tokenizer, examples, *format, *matcher, rewards, *advantage, *objective, optimizer}, options);
  std::vector<double> step_s, generate_s, update_s;
  while (!trainer.done()) {
    const auto metrics = trainer.step().metrics;
    step_s.push_back(metrics.at("time/step_s"));
    generate_s.push_back(metrics.at("time/generate_s"));
    update_s.push_back(metrics.at("time/update_s"));
  }
  const auto median = [](std::vector<double> v) {
    if (v.size() > 1) v.erase(v.begin());  // the first step warms up
    std::nth_element(v.begin(), v.begin() + static_cast<long>(v.size() / 2), v.end());
    return v[v.size() / 2];
  };
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  std::cout << nlohmann::json{{"name",
                               std::string("grpo_step/plural-") + PLURAL_VERSION + "/" + argument(3, "bfloat16")},
                              {"device", argument(4, "cpu")},
                              {"prompts", options.prompts_per_step},
                              {"samples", options.samples_per_prompt},
                              {"new_tokens", options.sampling.max_new_tokens},
                              {"seconds", step_s},
                              {"median_s", median(step_s)},
                              {"median_generate_s", median(generate_s)},
                              {"median_update_s", median(update_s)},
                              {"peak_memory_gb", static_cast<double>(usage.ru_maxrss) / 1e6}}
                   .dump()
            << "\n";
}
