// SPDX-License-Identifier: Apache-2.0
// plural eval: a model, or completions that are there already, on data sets -> metrics.json, samples.jsonl,
// report.html.
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <tuple>

#include "app/commands.h"
#include "app/model_args.h"
#include "app/run_config_file.h"
#include "app/shared_options.h"
#include "app/stop_signal.h"
#include "lib/core/file_io.h"
#include "lib/core/format.h"
#include "lib/eval/evaluator.h"
#include "lib/eval/forced_completion.h"
#include "lib/eval/report.h"
#include "lib/train/prompts.h"
#include "plural/checkpoint.h"
#include "plural/error.h"

namespace plural::app {
namespace {

struct EvalArgs {
  ModelArgs model;
  ConfigFileArgs config;
  SamplingArgs sampling;
  std::string out, title, format, matcher, mode = "set", confidence = "stated";
  std::vector<std::string> data, baselines, stop;
  std::vector<int64_t> num_answers;
  bool force_answers = false, force_confidences = false;
  std::optional<int64_t> samples, limit;
  int64_t bootstrap = 1000;
  uint64_t seed = 1;
};

/// Everything that the command line and the configuration say together.
struct Settings {
  std::vector<std::string> data;
  int64_t limit = 0;        ///< examples of each data set; 0 = all
  std::vector<int64_t> ks;  ///< the main one first; empty = as the data says
  std::string format;
  PartSpec matcher;
  eval::AskOptions ask;
};

Settings settings(const EvalArgs& args) {
  RunConfig config;
  const bool has_file = !args.config.file.empty();
  if (has_file) config = load_checked_config(args.config.file, args.config.overrides);
  const EvaluationConfig& evaluation = config.evaluation;
  Settings s;
  s.data = args.data.empty() ? evaluation.data : args.data;
  if (s.data.empty()) throw InputError("--data: expected a data set, or a --config with evaluation.data");
  s.limit = args.limit.value_or(evaluation.limit);
  s.format = args.format.empty() ? config.format : args.format;
  s.ks = args.num_answers;
  if (s.ks.empty() && (has_file || !args.model.model.empty())) {
    const int64_t k = evaluation.num_answers > 0 ? evaluation.num_answers : config.num_answers.front();
    s.ks = {make_answer_format(s.format)->single() && args.mode == "set" ? 1 : k};
  }
  s.matcher = args.matcher.empty() ? config.matcher : PartSpec{args.matcher, {}};
  s.ask.samples_per_prompt = args.samples.value_or(evaluation.samples_per_prompt);
  s.ask.force_answers = args.force_answers;
  s.ask.force_confidences = args.force_confidences;
  s.ask.seed = args.seed;
  s.ask.sampling = evaluation.sampling;
  args.sampling.apply(s.ask.sampling);
  if (!args.stop.empty()) s.ask.sampling.stop = args.stop;
  return s;
}

/// A way of getting answers: one line of the report's table.
struct Way {
  std::string name;   ///< of its folder
  std::string title;  ///< "" = the plain way
  eval::AskMode mode = eval::AskMode::kSet;
  eval::ConfidenceSource confidence = eval::ConfidenceSource::kStated;
  bool verbalised = false;
  bool forced = false;  ///< what the completions leave out is asked for afterwards
  bool baseline = false;
};

Way way_of(const std::string& name) {
  using eval::AskMode;
  using eval::ConfidenceSource;
  if (name == "independent") return {name, "independent samples", AskMode::kIndependent, ConfidenceSource::kStated};
  if (name == "sequential") return {name, "one at a time", AskMode::kSequential, ConfidenceSource::kStated};
  if (name == "verbalised") return {name, "verbalised sampling", AskMode::kSet, ConfidenceSource::kStated, true};
  if (name == "answer_probability") return {name, "answer probability", AskMode::kSet, ConfidenceSource::kProbability};
  if (name == "answer_tag_probability")
    return {name, "answer probability (reference)", AskMode::kSet, ConfidenceSource::kTagProbability};
  return {name, "", AskMode::kSet, ConfidenceSource::kStated};
}

/// The main way's own completions, with what they leave out.
Way forced(Way main) {
  main.name = "forced";
  main.title = "forced completion";
  main.confidence = eval::ConfidenceSource::kStated;
  main.forced = true;
  return main;
}

/// The way that --mode and --confidence name, then the baselines.
std::vector<Way> ways_of(const EvalArgs& args) {
  Way main = way_of(args.mode);
  main.title = "";
  for (const auto source : {eval::ConfidenceSource::kMeanProbability, eval::ConfidenceSource::kProbability,
                            eval::ConfidenceSource::kTagProbability})
    if (args.confidence == to_string(source)) main.confidence = source;
  std::vector<Way> ways = {main};
  for (const std::string& name : args.baselines) {
    ways.push_back(name == "forced" ? forced(main) : way_of(name));
    ways.back().baseline = true;
  }
  return ways;
}

/// Examples without an id get their number, which finds them again in samples.jsonl and under the baselines.
std::vector<Example> load_examples(const std::string& file, int64_t limit) {
  std::vector<Example> examples = load_dataset(file);
  if (limit > 0 && limit < static_cast<int64_t>(examples.size())) examples.resize(static_cast<size_t>(limit));
  for (size_t i = 0; i < examples.size(); ++i)
    if (examples[i].id.empty()) examples[i].id = fmt::format("#{}", i + 1);
  return examples;
}

std::string format_of(const Way& way, const Settings& settings) {
  return way.verbalised ? "verbalised" : settings.format;
}

/// What can be refused before anything is loaded or asked.
void check_settings(const Settings& settings, const std::vector<Way>& ways, bool with_model) {
  make_matcher(settings.matcher.name, settings.matcher.options, environment);
  for (const Way& way : ways) {
    const auto format = make_answer_format(format_of(way, settings));
    if (with_model && way.mode == eval::AskMode::kSet) check_num_answers(*format, settings.ks);
  }
  if (settings.ask.force_confidences && !make_answer_format(format_of(ways.front(), settings))->has_confidences())
    throw InputError(fmt::format(
        "--force-confidences: format '{}' has no confidences; choose one that has, or leave it out", settings.format));
  const bool forces = settings.ask.force_answers || settings.ask.force_confidences;
  if (forces && std::any_of(ways.begin(), ways.end(), [](const Way& way) { return way.forced; }))
    throw InputError(
        "--baseline forced: compares with the completions as they are, and --force-... forces those too; leave one "
        "out");
  for (auto k = settings.ks.begin(); k != settings.ks.end(); ++k)
    if (std::find(settings.ks.begin(), k, *k) != k)
      throw InputError(fmt::format("--num-answers: {} is given twice; its sets would count twice", *k));
}

/// Prompts must fit before hours of work start.
void check_lengths(const eval::AskParts& parts, const std::string& file, int64_t k) {
  for (const Example& example : parts.examples) {
    const auto size = static_cast<int64_t>(eval::evaluation_prompt(parts, example, k).size());
    if (size >= parts.context_length) {
      throw InputError(
          fmt::format("{}: example '{}' has {} prompt tokens, the model's context is {}; shorten or remove it", file,
                      example.id, size, parts.context_length));
    }
  }
}

/// Where the sets of one data file come from.
class SetSource {
 public:
  virtual ~SetSource() = default;
  virtual std::vector<eval::SampledSet> sets(const Way& way, int64_t k) = 0;
};

class SampledSource final : public SetSource {
 public:
  SampledSource(LoadedModel& model, RolloutEngine& engine, const Settings& settings, std::span<const Example> examples)
      : model_(model), engine_(engine), settings_(settings), examples_(examples) {}

  eval::AskParts parts(const AnswerFormat& format) const {
    return {engine_, model_.tokenizer, examples_, format, model_.policy->context_length()};
  }

  std::vector<eval::SampledSet> sets(const Way& way, int64_t k) override {
    eval::AskOptions options = settings_.ask;
    options.mode = way.mode;
    options.num_answers = k;
    if (::isatty(STDERR_FILENO) != 0)
      options.progress = [&](int64_t done, int64_t all) {
        fmt::print(stderr, "\r\x1b[Keval ({})  K {}  {}/{} prompts{}", way.name, k, done, all, done == all ? "\n" : "");
      };
    const auto format = make_answer_format(format_of(way, settings_));
    // Ways that differ only in what they do with the completions share them.
    const auto [it, is_new] = drawn_.try_emplace({way.mode, way.verbalised, k});
    if (is_new) it->second = eval::sample_sets(parts(*format), options);
    std::vector<eval::SampledSet> sets = it->second;
    if (way.forced) eval::force_all(parts(*format), options, sets);
    return sets;
  }

 private:
  LoadedModel& model_;
  RolloutEngine& engine_;
  const Settings& settings_;
  std::span<const Example> examples_;
  std::map<std::tuple<eval::AskMode, bool, int64_t>, std::vector<eval::SampledSet>> drawn_;
};

class StoredSource final : public SetSource {
 public:
  StoredSource(const std::string& format, std::span<const Example> examples)
      : format_(make_answer_format(format)), examples_(examples) {}
  std::vector<eval::SampledSet> sets(const Way&, int64_t k) override {
    auto sets = eval::read_sets(examples_, *format_, k);
    if (sets.empty())
      throw InputError(fmt::format("--num-answers {}: no line has completions that were asked for so many answers", k));
    return sets;
  }

 private:
  std::unique_ptr<AnswerFormat> format_;
  std::span<const Example> examples_;
};

void print_line(const std::string& title, const eval::Evaluation& evaluation) {
  const auto value = [&](const char* name) {
    const double measured = evaluation.metrics.at(name);
    return std::isfinite(measured) ? fmt::format("{:.3f}", measured) : "-";
  };
  fmt::print(stderr, "{}K {}: format {}  coverage {}  unique {}  Brier {}  ECE {}\n", title.empty() ? "" : title + "  ",
             evaluation.num_answers, value("format_rate"), value("coverage"), value("unique"), value("brier"),
             value("ece"));
}

/// All ways on one data file.
class DataEvaluation {
 public:
  DataEvaluation(const EvalArgs& args, const Settings& settings, const std::string& file, const std::string& name)
      : args_(args),
        settings_(settings),
        file_(file),
        name_(name),
        matcher_(make_matcher(settings.matcher.name, settings.matcher.options, environment)) {}

  void run(SetSource& source, const Way& way, const std::vector<int64_t>& ks, const std::filesystem::path& out) const {
    std::string title = args_.title;
    if (!way.title.empty()) title += (title.empty() ? "" : ", ") + way.title;
    const auto format = make_answer_format(format_of(way, settings_));
    BootstrapOptions bootstrap;
    bootstrap.replicates = args_.bootstrap;
    bootstrap.seed = args_.seed;
    std::vector<eval::Evaluation> evaluations;
    int64_t prompts = 0, samples = 0;
    std::optional<Interrupted> stop;
    for (const int64_t k : ks) {
      std::vector<eval::SampledSet> sets;
      try {
        sets = source.sets(way, k);
      } catch (const Interrupted& error) {
        if (evaluations.empty()) throw;
        stop = error;
        break;
      }
      eval::set_confidences(sets, way.confidence);
      evaluations.push_back(eval::evaluate(sets, k, *format, *matcher_, bootstrap, stop_request()));
      print_line(title, evaluations.back());
      if (const std::string& problem = evaluations.back().match_problem; !problem.empty())
        fmt::print(stderr, "plural: warning: some answers could not be judged and count as wrong: {}\n", problem);
      for (const eval::SampledSet& set : sets) {
        prompts = std::max(prompts, set.prompt + 1);
        samples = std::max(samples, set.sample + 1);
      }
    }
    const bool stored = args_.model.model.empty();
    // Under OUT/metrics.json there is always the whole evaluation: scripts that go on where they were stopped look for
    // it.
    const std::filesystem::path stopped = out / "stopped";
    eval::write_evaluation(stop ? stopped : out, evaluations,
                           {.title = title,
                            .mode = stored ? "stored" : std::string(to_string(way.mode)),
                            .confidence = std::string(to_string(way.confidence)),
                            .baseline = way.baseline ? way.name : "",
                            .model = args_.model.model,
                            .data = file_,
                            .data_name = name_,
                            .format = format->name(),
                            .matcher = settings_.matcher.name,
                            .seed = args_.seed,
                            .prompts = prompts,
                            .samples_per_prompt = samples,
                            .sampling = stored ? std::nullopt : std::optional(settings_.ask.sampling)});
    if (stop)
      throw Interrupted(
          fmt::format("{}; the sets of K {} are done and in {} (of {} K asked for)", stop->what(),
                      fmt::join(ks.begin(), ks.begin() + static_cast<std::ptrdiff_t>(evaluations.size()), ", "),
                      stopped.string(), ks.size()));
    std::error_code absent;  // of an earlier attempt; a folder that holds anything else stays
    for (const char* name : {"metrics.json", "samples.jsonl", "report.html", ""})
      std::filesystem::remove(stopped / name, absent);
  }

 private:
  const EvalArgs& args_;
  const Settings& settings_;
  std::string file_, name_;
  std::unique_ptr<Matcher> matcher_;
};

/// The K that are asked for, else those that the lines of a file name, else the default.
std::vector<int64_t> ks_of(const Settings& settings, std::span<const Example> examples) {
  if (!settings.ks.empty()) return settings.ks;
  std::vector<int64_t> ks = eval::stored_num_answers(examples, kMostAnswers);
  if (ks.empty()) ks = {make_answer_format(settings.format)->single() ? 1 : RunConfig{}.num_answers.front()};
  return ks;
}

/// Says which evaluations of other commands the report shows as well: `own` are the folders in OUT/evals of this one.
void tell_of_others(const std::filesystem::path& out, const std::vector<std::string>& own) {
  std::vector<std::string> others;
  std::error_code none;
  for (const auto& entry : std::filesystem::directory_iterator(out / "evals", none)) {
    const std::string name = entry.path().filename().string();
    if (std::filesystem::exists(entry.path() / "metrics.json") && std::find(own.begin(), own.end(), name) == own.end())
      others.push_back(name);
  }
  std::sort(others.begin(), others.end());
  if (!others.empty())
    fmt::print(stderr, "plural: note: {} holds evaluations of an earlier command, which the report shows too: {}\n",
               (out / "evals").string(), fmt::join(others, ", "));
}

void refuse_without_model(const EvalArgs& args) {
  if (args.mode != "set" || args.confidence != "stated" || !args.baselines.empty() || args.force_answers ||
      args.force_confidences)
    throw InputError(
        "--mode, --confidence, --baseline and --force-... ask a model: give --model, or leave them out to evaluate the "
        "completions that the data holds");
}

int evaluate(const EvalArgs& args) {
  const bool with_model = !args.model.model.empty();
  if (!with_model) refuse_without_model(args);
  const Settings s = settings(args);
  const std::vector<Way> ways = ways_of(args);
  check_settings(s, ways, with_model);
  const std::vector<std::string> names = eval::data_set_names(s.data);
  std::vector<std::vector<Example>> examples;
  for (const std::string& file : s.data) examples.push_back(load_examples(file, s.limit));

  std::optional<LoadedModel> model;
  std::unique_ptr<RolloutEngine> engine;
  if (with_model) {
    model = load_model(args.model);
    engine = make_local_engine(*model->policy, model->tokenizer);
    engine->set_progress([](int64_t, int64_t, int64_t) { return !stop_token().stop_requested(); });
    const int64_t most = *std::max_element(s.ks.begin(), s.ks.end());
    for (size_t d = 0; d < s.data.size(); ++d)
      for (const Way& way : ways)
        check_lengths(SampledSource(*model, *engine, s, examples[d]).parts(*make_answer_format(format_of(way, s))),
                      s.data[d], most);
  }

  const std::filesystem::path out = args.out;
  // A folder that cannot be written is found before hours of work, not after.
  plural::detail::make_folders(out);
  { const plural::detail::AtomicFile never_committed(out / "metrics.json"); }
  std::vector<std::string> order;  // of the folders in OUT/evals
  for (size_t d = 0; d < s.data.size(); ++d) {
    std::unique_ptr<SetSource> source;
    if (with_model)
      source = std::make_unique<SampledSource>(*model, *engine, s, examples[d]);
    else
      source = std::make_unique<StoredSource>(s.format, examples[d]);
    const std::vector<int64_t> ks = ks_of(s, examples[d]);
    const DataEvaluation evaluation(args, s, s.data[d], names[d]);
    for (size_t w = 0; w < ways.size(); ++w) {
      if (d == 0 && w == 0) {
        evaluation.run(*source, ways[w], ks, out);
        continue;
      }
      order.push_back(s.data.size() > 1 ? names[d] + "-" + ways[w].name : ways[w].name);
      evaluation.run(*source, ways[w], ks, out / "evals" / order.back());
    }
  }
  if (!order.empty()) write_file_atomic(out / "evals" / "order.json", nlohmann::json(order).dump() + "\n");
  tell_of_others(out, order);
  const eval::Report report = eval::write_report(out);
  fmt::print(stderr, "plural: wrote {}\n", report.page.string());
  return 0;
}

/// The reference's evaluation knows its formats of sets by a second name each (spec/official_rewards.md 7.4).
std::string long_name(std::string format) {
  for (const char* name : {"multi_answer", "multi_answer_no_analysis", "multi_answer_rlvr"})
    if (format == fmt::format("{}_short", name)) return name;
  return format;
}

void add_asking_options(CLI::App& command, EvalArgs* args) {
  command
      .add_option("--num-answers", args->num_answers,
                  "K, answers asked for; several (3,1,2,4,5) give coverage by K, the first one "
                  "is the main one")
      ->delimiter(',')
      ->check(num_answers_range());
  add_format_option(command, &args->format)->transform(long_name);
  add_matcher_option(command, &args->matcher);
  command
      .add_option(
          "--mode", args->mode,
          "set: one completion of K answers; independent: K completions of one answer each; sequential: the same "
          "one after the other, each told the answers so far; verbalised: K responses with probabilities in one "
          "completion")
      ->check(CLI::IsMember({"set", "independent", "sequential", "verbalised"}))
      ->capture_default_str();
  command
      .add_option(
          "--confidence", args->confidence,
          "what counts as confidence: stated; the mean_probability of the answer's tokens; their product, the "
          "probability of the answer; or answer_tag_probability, the mean between the last two tokens `answer` of the "
          "completion (the rule of the reference code)")
      ->check(CLI::IsMember({"stated", "mean_probability", "probability", "answer_tag_probability"}))
      ->capture_default_str();
  command
      .add_option("--baseline", args->baselines,
                  "also evaluate these baselines, into OUT/evals/NAME: independent, sequential, verbalised, "
                  "answer_probability, answer_tag_probability, forced (the main completions, with the answers and "
                  "confidences that they leave out)")
      ->delimiter(',')
      ->check(CLI::IsMember(
          {"independent", "sequential", "verbalised", "answer_probability", "answer_tag_probability", "forced"}));
  command.add_flag("--force-answers", args->force_answers,
                   "continue completions without any answer after \"Final answer:\"");
  command.add_flag("--force-confidences", args->force_confidences,
                   "ask for the confidences that completions left out, from 0 to 100");
}

}  // namespace

void add_eval(CLI::App& app, int* exit_code) {
  auto args = std::make_shared<EvalArgs>();
  CLI::App* command = app.add_subcommand(
      "eval",
      "Evaluates a model, or without --model the completions that the data holds: metrics.json, samples.jsonl, "
      "report.html");
  add_model_options(*command, &args->model, /*required=*/false);
  command->add_option("--data,--in", args->data,
                      "data sets, JSON Lines; default: evaluation.data of the configuration");
  command->add_option("--out", args->out, "folder to write")->required();
  add_config_options(*command, &args->config, "format, K, matcher and the section evaluation");
  command->add_option("--title", args->title, "name of this evaluation in reports");
  command->add_option("--limit", args->limit, "use only the first examples; 0 = all (default 0)")
      ->check(CLI::NonNegativeNumber);
  add_asking_options(*command, args.get());
  command->add_option("-n,--samples", args->samples, "sets sampled for each prompt (default 1)")
      ->check(CLI::Range(1, 100000));
  add_sampling_options(*command, &args->sampling);
  command->add_option("--stop", args->stop, "string that ends a completion; may be repeated")
      ->take_all()
      ->allow_extra_args(false);
  add_seed_option(*command, &args->seed);
  command->add_option("--bootstrap", args->bootstrap, "resamplings of the prompts for intervals; 0 = none")
      ->check(CLI::Range(0, 1 << 20))
      ->capture_default_str();
  command->callback([=] { *exit_code = evaluate(*args); });
}

}  // namespace plural::app
