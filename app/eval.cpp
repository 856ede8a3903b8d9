// SPDX-License-Identifier: Apache-2.0
// plural eval: a model on a data set -> metrics.json, samples.jsonl, report.html.
#include <unistd.h>

#include <memory>

#include "app/commands.h"
#include "app/model_args.h"
#include "app/run_config_file.h"
#include "app/shared_options.h"
#include "app/stop_signal.h"
#include "lib/core/file_io.h"
#include "lib/core/format.h"
#include "lib/eval/evaluator.h"
#include "lib/eval/report.h"
#include "plural/error.h"

namespace plural::app {
namespace {

struct EvalArgs {
  ModelArgs model;
  ConfigFileArgs config;
  SamplingArgs sampling;
  std::string data, out, title, format, matcher, mode = "set", baseline;
  std::vector<int64_t> num_answers;
  int64_t samples = 1, limit = 0;
  uint64_t seed = 1;
};

/// Format, matcher, K and sampling: the configuration's, with what the command line says on top.
RunConfig settings(const EvalArgs& args) {
  RunConfig config;
  if (!args.config.file.empty()) config = load_checked_config(args.config.file, args.config.overrides);
  if (!args.format.empty()) config.format = args.format;
  if (!args.matcher.empty()) config.matcher = args.matcher;
  args.sampling.apply(config.sampling);
  return config;
}

/// Prompts must fit before hours of work start.
void check_lengths(const eval::EvaluatorParts& parts, const std::string& file, int64_t k, int64_t context) {
  for (const Example& example : parts.examples) {
    const auto size = static_cast<int64_t>(eval::evaluation_prompt(parts, example, k).size());
    if (size >= context) {
      throw InputError(
          fmt::format("{}: example '{}' has {} prompt tokens, the model's context is {}; shorten or remove it", file,
                      example.id, size, context));
    }
  }
}

int evaluate(const EvalArgs& args) {
  const RunConfig config = settings(args);
  const std::vector<int64_t> ks = args.num_answers.empty() ? std::vector<int64_t>{config.num_answers}
                                                           : args.num_answers;
  const auto format = make_answer_format(config.format);
  const auto matcher = make_matcher(config.matcher);
  std::vector<Example> examples = load_dataset(args.data);
  if (examples.empty()) throw InputError(fmt::format("--data {}: holds no examples", args.data));
  if (args.limit > 0 && args.limit < static_cast<int64_t>(examples.size()))
    examples.resize(static_cast<size_t>(args.limit));
  LoadedModel model = load_model(args.model);
  auto engine = make_local_engine(*model.policy, model.tokenizer);
  engine->set_progress([](int64_t, int64_t, int64_t) { return !stop_token().stop_requested(); });
  const eval::EvaluatorParts parts{*engine, model.tokenizer, examples, *format, *matcher};
  check_lengths(parts, args.data, *std::max_element(ks.begin(), ks.end()), model.policy->context_length());
  plural::detail::make_folders(args.out);  // a folder that cannot be written is found before hours of work, not after

  const auto run = [&](bool independent, const std::string& out, const std::string& title) {
    eval::EvaluatorOptions options;
    options.samples_per_prompt = args.samples;
    options.independent = independent;
    options.sampling = config.sampling;
    options.seed = args.seed;
    const bool terminal = ::isatty(STDERR_FILENO) != 0;
    std::vector<eval::Evaluation> evaluations;
    for (const int64_t k : ks) {
      options.num_answers = k;
      options.progress = [&](int64_t done, int64_t all) {
        if (terminal)
          fmt::print(stderr, "\r\x1b[Keval{}  K {}  {}/{} prompts{}", independent ? " (independent)" : "", k, done, all,
                     done == all ? "\n" : "");
      };
      evaluations.push_back(eval::evaluate_answers(parts, options));
      const MetricMap& m = evaluations.back().metrics;
      const auto value = [&](const char* name) { return m.contains(name) ? m.at(name) : 0.0; };
      fmt::print(stderr, "{}K {}: format {:.3f}  coverage {:.3f}  unique {:.3f}  Brier {:.3f}  ECE {:.3f}\n",
                 title.empty() ? "" : title + "  ", k, value("format_rate"), value("coverage"), value("unique"),
                 value("brier"), value("ece"));
    }
    eval::write_evaluation(
        out, evaluations, options,
        {title, args.model.model, args.data, config.format, config.matcher, static_cast<int64_t>(examples.size())});
  };

  const std::filesystem::path out = args.out;
  run(args.mode == "independent", out, args.title);
  if (args.baseline == "independent") {
    run(true, out / "evals" / "independent",
        args.title.empty() ? "independent samples" : args.title + ", independent samples");
  }
  const eval::Report report = eval::write_report(out);
  fmt::print(stderr, "plural: wrote {}\n", report.page.string());
  return 0;
}

}  // namespace

void add_eval(CLI::App& app, int* exit_code) {
  auto args = std::make_shared<EvalArgs>();
  CLI::App* command = app.add_subcommand("eval",
                                         "Evaluates a model on a data set: metrics.json, samples.jsonl, report.html");
  add_model_options(*command, &args->model);
  command->add_option("--data,--in", args->data, "data set, JSON Lines")->required();
  command->add_option("--out", args->out, "folder to write")->required();
  add_config_options(*command, &args->config, "format, K, matcher and sampling");
  command->add_option("--title", args->title, "name of this evaluation in reports");
  command
      ->add_option("--num-answers", args->num_answers,
                   "K, answers asked for; several (3,1,2,4,5) give coverage by K, the first one "
                   "is the main one")
      ->delimiter(',')
      ->check(num_answers_range());
  add_format_option(*command, &args->format);
  add_matcher_option(*command, &args->matcher);
  command
      ->add_option("--mode", args->mode,
                   "set: one completion of K answers; independent: K completions of one answer each")
      ->check(CLI::IsMember({"set", "independent"}))
      ->capture_default_str();
  command->add_option("--baseline", args->baseline, "also evaluate this baseline, into OUT/evals/independent")
      ->check(CLI::IsMember({"independent"}));
  add_samples_option(*command, &args->samples, "sets sampled for each prompt");
  command->add_option("--limit", args->limit, "use only the first examples; 0 = all")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  add_sampling_options(*command, &args->sampling);
  add_seed_option(*command, &args->seed);
  command->callback([=] { *exit_code = evaluate(*args); });
}

}  // namespace plural::app
