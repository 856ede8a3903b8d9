// SPDX-License-Identifier: Apache-2.0
// plural generate: prompts to completions.
#include <array>
#include <memory>
#include <span>
#include <utility>

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
  std::string format;       ///< "" = not said
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

std::vector<Json> output_lines(const InputLine& line, std::span<const Completion> rows) {
  std::vector<Json> lines;
  for (const Completion& completion : rows) {
    Json& out = lines.emplace_back(Json::object());
    if (line.object.contains("id")) out["id"] = line.object["id"];
    out["completion"] = completion.text;
    out["ids"] = completion.ids;
    out["logprobs"] = completion.log_probs;
    out["finish_reason"] = std::string(to_string(completion.finish));
    out["sample"] = lines.size() - 1;
  }
  return lines;
}

/// The results before the first line that has neither results nor an error.
std::vector<std::vector<Json>> finished(const std::vector<InputLine*>& lines, std::vector<std::vector<Json>> results) {
  size_t count = 0;
  while (count < lines.size() && (!results[count].empty() || !lines[count]->error.empty())) ++count;
  results.resize(count);
  return results;
}

/// A format is used only where answers are asked for; one that holds a single answer says how many by itself.
void settle_num_answers(GenerateArgs& args, const AnswerFormat& format) {
  if (args.num_answers == 0 && !args.format.empty()) {
    if (!format.single())
      throw InputError(fmt::format(
          "--format {}: is used only with --num-answers; say how many answers to ask for, or leave --format out to "
          "send the prompt as it is",
          args.format));
    args.num_answers = 1;
  }
  if (args.num_answers > 0) check_num_answers(format, std::array{args.num_answers});
}

int generate(GenerateArgs args) {
  const auto format = make_answer_format(args.format.empty() ? "compact" : args.format);
  settle_num_answers(args, *format);
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
    // As they are finished, so that they are there when the rest of the batch is given up.
    engine->set_group_done([&](int64_t prompt, std::span<const Completion> rows) {
      const size_t place = first + static_cast<size_t>(prompt);
      results[place] = output_lines(*lines[place], rows);
    });
    const auto flush = [&](size_t end) {
      if (!prompts.empty()) {
        const RolloutKey key{args.seed, 0, static_cast<uint64_t>(lines[first]->index * group)};
        try {
          engine->generate(prompts, args.sampling, key);
        } catch (const Interrupted& stop) {
          throw BatchStopped(fmt::format("{}; what came before the first unfinished prompt is written", stop.what()),
                             finished(lines, std::move(results)));
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
  auto* format = add_format_option(*command, &args->format);
  add_samples_option(*command, &args->sampling.samples_per_prompt, "completions of each prompt (G)");
  add_sampling_options(*command, &args->drawing);
  command->add_option("--stop", args->sampling.stop, "string that ends a completion; may be repeated")
      ->take_all()
      ->allow_extra_args(false);
  add_seed_option(*command, &args->seed);
  command->add_flag("--raw", args->raw, "the prompt is plain text: no chat template")
      ->excludes(num_answers)
      ->excludes(format);
  command->add_option("--batch", args->batch, "prompts generated together; changes speed, never the result")
      ->check(CLI::Range(1, 4096))
      ->capture_default_str();
  command->callback([=] {
    args->drawing.apply(args->sampling);
    *exit_code = generate(*args);
  });
}

}  // namespace plural::app
