// SPDX-License-Identifier: Apache-2.0
// plural generate: prompts to completions.
#include <array>
#include <memory>

#include "app/commands.h"
#include "app/line_io.h"
#include "app/messages.h"
#include "app/model_args.h"
#include "app/shared_options.h"
#include "app/stop_signal.h"
#include "lib/core/format.h"
#include "lib/train/prompts.h"
#include "plural/answers.h"
#include "plural/error.h"
#include "plural/rollout.h"

namespace plural::app {
namespace {

struct GenerateArgs {
  ModelArgs model;
  IoPaths io;
  SamplingOptions sampling;
  SamplingArgs drawing;
  int64_t num_answers = 0;  ///< 0 = the prompt as it is
  std::string format = "compact";
  bool raw = false;
  uint64_t seed = 1;
  size_t batch = 32;
};

std::vector<TokenId> encode_prompt(const GenerateArgs& args, const Tokenizer& tokenizer, const AnswerFormat& format,
                                   const Json& object) {
  if (args.raw) return tokenizer.encode(required_string(object, "prompt"), true);
  std::vector<Message> prompt = required_prompt(object, "prompt");
  if (args.num_answers > 0) prompt = render_prompt(prompt, format, args.num_answers);
  return tokenizer.encode_chat(prompt);
}

Json output_line(const InputLine& line, int64_t sample, const Completion& completion) {
  Json out = Json::object();
  if (line.object.contains("id")) out["id"] = line.object["id"];
  out["completion"] = completion.text;
  out["ids"] = completion.ids;
  out["logprobs"] = completion.log_probs;
  out["finish_reason"] = std::string(to_string(completion.finish));
  out["sample"] = sample;
  return out;
}

int generate(const GenerateArgs& args) {
  const auto format = make_answer_format(args.format);
  if (args.num_answers > 0) check_num_answers(*format, std::array{args.num_answers});
  LoadedModel model = load_model(args.model);
  auto engine = make_local_engine(*model.policy, model.tokenizer);
  engine->set_progress([](int64_t, int64_t, int64_t) { return !stop_token().stop_requested(); });
  const int64_t group = args.sampling.samples_per_prompt;

  return map_batches(args.io, args.batch, [&](std::vector<InputLine*>& lines) {
    // Rows are keyed by the line's number, so results depend neither on --batch nor on bad lines in
    // between; runs of consecutive usable lines go to the engine together.
    std::vector<std::vector<Json>> results(lines.size());
    std::vector<std::vector<TokenId>> prompts;
    size_t first = 0;
    const auto flush = [&](size_t end) {
      if (!prompts.empty()) {
        const RolloutKey key{args.seed, 0, static_cast<uint64_t>(lines[first]->index * group)};
        const RolloutBatch batch = engine->generate(prompts, args.sampling, key);
        for (size_t row = 0; row < batch.rows.size(); ++row) {
          const size_t place = first + row / static_cast<size_t>(group);
          results[place].push_back(output_line(*lines[place], static_cast<int64_t>(row) % group, batch.rows[row]));
        }
      }
      prompts.clear();
      first = end;
    };
    for (size_t i = 0; i < lines.size(); ++i) {
      if (i > first && lines[i]->index != lines[i - 1]->index + 1) flush(i);
      try {
        std::vector<TokenId> prompt = encode_prompt(args, model.tokenizer, *format, lines[i]->object);
        const auto size = static_cast<int64_t>(prompt.size());
        if (size == 0) throw InputError("the prompt has no tokens");
        if (size >= model.policy->context_length()) {
          throw InputError(fmt::format("the prompt has {} tokens, the model's context is {}: shorten it", size,
                                       model.policy->context_length()));
        }
        prompts.push_back(std::move(prompt));
      } catch (const InputError& error) {
        flush(i + 1);
        lines[i]->error = fmt::format("{}: {}", lines[i]->place, error.what());
      }
    }
    flush(lines.size());
    return results;
  });
}

}  // namespace

void add_generate(CLI::App& app, int* exit_code) {
  auto args = std::make_shared<GenerateArgs>();
  CLI::App* command = app.add_subcommand(
      "generate",
      "Samples completions: {\"prompt\"} -> G lines {\"completion\", \"ids\", \"logprobs\", "
      "\"finish_reason\"}");
  add_model_options(*command, &args->model);
  add_io_options(*command, &args->io);
  auto* num_answers = command
                          ->add_option("--num-answers", args->num_answers,
                                       "ask for this many answers in one completion (adds the format's instruction)")
                          ->check(num_answers_range());
  add_format_option(*command, &args->format);
  add_samples_option(*command, &args->sampling.samples_per_prompt, "completions of each prompt (G)");
  add_sampling_options(*command, &args->drawing);
  command->add_option("--stop", args->sampling.stop, "string that ends a completion; may be repeated")
      ->take_all()
      ->allow_extra_args(false);
  add_seed_option(*command, &args->seed);
  command->add_flag("--raw", args->raw, "the prompt is plain text: no chat template")->excludes(num_answers);
  command->add_option("--batch", args->batch, "prompts generated together; changes speed, never the result")
      ->check(CLI::Range(1, 4096))
      ->capture_default_str();
  command->callback([=] {
    args->drawing.apply(args->sampling);
    *exit_code = generate(*args);
  });
}

}  // namespace plural::app
