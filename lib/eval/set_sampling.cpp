// SPDX-License-Identifier: Apache-2.0
#include "lib/eval/set_sampling.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <unordered_map>

#include "lib/core/format.h"
#include "lib/eval/forced_completion.h"
#include "lib/eval/reference_eval.h"
#include "plural/error.h"

namespace plural::eval {
namespace {

/// Prompts generated together: enough to keep the engine full, few enough for frequent progress.
constexpr int64_t kPromptsAtOnce = 32;

/// The prompt with a sentence that rules answers out, at the end of the last user turn.
std::vector<Message> with_exclusion(std::vector<Message> prompt, std::span<const std::string> excluded) {
  if (excluded.empty()) return prompt;
  const std::string sentence = fmt::format("Do not give any of these answers: {}.", fmt::join(excluded, "; "));
  const auto user = std::find_if(prompt.rbegin(), prompt.rend(), [](const Message& m) { return m.role == "user"; });
  if (user == prompt.rend())
    prompt.push_back({"user", sentence});
  else
    user->content += (user->content.empty() ? "" : " ") + sentence;
  return prompt;
}

/// Where the text of an answer stands inside its block.
Span text_bytes(std::string_view completion, const Answer& answer) {
  if (answer.answer_bytes.empty() || answer.text.empty()) return {};
  const size_t inner = completion.find('>', static_cast<size_t>(answer.answer_bytes.begin));
  const size_t begin = inner == std::string_view::npos ? inner : completion.find(answer.text, inner + 1);
  if (begin == std::string_view::npos) return {};
  return {static_cast<int64_t>(begin), static_cast<int64_t>(begin + answer.text.size())};
}

/// Appends the first answer of a completion that was asked for one; without an answer, an empty slot.
void append_single(const AnswerFormat& format, const Completion& completion, SampledSet* set) {
  AnswerSet single = parse_for_evaluation(format, completion.text, 1);
  AnswerSet& all = set->answers;
  const bool first = all.answers.empty();
  all.format_ok = (first || all.format_ok) && single.format_ok;
  all.extracted = (first || all.extracted) && single.extracted;
  all.paired = (first || all.paired) && single.paired;
  if (all.problem.empty()) all.problem = single.problem;
  all.answers.push_back(single.answers.empty() ? Answer{} : std::move(single.answers.front()));
}

void parse(const AnswerFormat& format, bool one_each, SampledSet* set) {
  set->answers = {};
  if (!one_each) {
    set->answers = parse_for_evaluation(format, set->completions.front().text, set->k);
    return;
  }
  for (const Completion& completion : set->completions) append_single(format, completion, set);
}

/// Log-probs of each answer's tokens, and the tokens spent when it was written.
void account_tokens(const Tokenizer& tokenizer, SampledSet* set) {
  const bool one_each = set->completions.size() > 1;
  set->log_probs.clear(), set->tokens_at.clear(), set->tag_probabilities.clear();
  set->tokens = 0;
  for (const Completion& completion : set->completions) {
    set->tokens += static_cast<int64_t>(completion.ids.size());
    set->tag_probabilities.push_back(answer_tag_probability(tokenizer, completion.ids, completion.log_probs));
  }
  int64_t before = 0;
  for (size_t i = 0; i < set->answers.answers.size(); ++i) {
    const Answer& answer = set->answers.answers[i];
    const Completion& completion = set->completion_of(i);
    const Span text = token_span(tokenizer, completion.ids, text_bytes(completion.text, answer));
    set->log_probs.emplace_back(completion.log_probs.begin() + text.begin, completion.log_probs.begin() + text.end);
    if (one_each) {
      before += static_cast<int64_t>(completion.ids.size());
      set->tokens_at.push_back(before);
    } else {
      const Span answer_tokens = token_span(tokenizer, completion.ids, answer.answer_bytes),
                 confidence_tokens = token_span(tokenizer, completion.ids, answer.confidence_bytes);
      set->tokens_at.push_back(std::max(answer_tokens.end, confidence_tokens.end));
    }
  }
}

/// Draws `count` completions for each of the prompts and appends them to the sets, set by set.
void generate(const AskParts& parts, const AskOptions& options, std::span<const std::vector<TokenId>> prompts,
              int64_t per_prompt, const RolloutKey& key, std::span<SampledSet> sets) {
  SamplingOptions sampling = options.sampling;
  sampling.samples_per_prompt = per_prompt;
  RolloutBatch batch = parts.engine.generate(prompts, sampling, key);
  const size_t pieces = batch.rows.size() / sets.size();
  for (size_t row = 0; row < batch.rows.size(); ++row)
    sets[row / pieces].completions.push_back(std::move(batch.rows[row]));
}

/// The sets of some consecutive prompts, drawn one answer after the other.
void ask_in_turn(const AskParts& parts, const AskOptions& options, uint64_t first_row, std::span<SampledSet> sets) {
  for (int64_t turn = 0; turn < options.num_answers; ++turn) {
    std::vector<std::vector<TokenId>> prompts;
    for (const SampledSet& set : sets) prompts.push_back(sequential_prompt(parts, set, turn));
    generate(parts, options, prompts, 1, {options.seed, static_cast<uint64_t>(turn), first_row}, sets);
    for (SampledSet& set : sets) append_single(parts.format, set.completions.back(), &set);
  }
}

/// The sets of some consecutive prompts, all at once.
void ask_at_once(const AskParts& parts, const AskOptions& options, uint64_t first_row, std::span<SampledSet> sets) {
  const bool one_each = options.mode == AskMode::kIndependent;
  const int64_t pieces = one_each ? options.num_answers : 1;
  std::vector<std::vector<TokenId>> prompts;
  for (const SampledSet& set : sets)
    if (set.sample == 0) prompts.push_back(evaluation_prompt(parts, *set.example, one_each ? 1 : options.num_answers));
  generate(parts, options, prompts, options.samples_per_prompt * pieces,
           {options.seed, 0, first_row * static_cast<uint64_t>(pieces)}, sets);
  for (SampledSet& set : sets) parse(parts.format, one_each, &set);
}

[[noreturn]] void refuse(const Example& example, const std::string& what) {
  throw InputError(fmt::format("example '{}': {}", example.id, what));
}

/// A field of the example that is no part of its task; null when absent.
nlohmann::json extra_field(const Example& example, const char* name) {
  const auto it = example.extra.find(name);
  return it == example.extra.end() ? nlohmann::json() : nlohmann::json::parse(it->second);
}

std::vector<Completion> stored_completions(const Example& example, int64_t k) {
  for (const char* forced : {"forced_answers", "forced_confidences"})
    if (!extra_field(example, forced).is_null())
      refuse(example, fmt::format("has the field '{}': the text holds blocks that its model did not write by itself; "
                                  "evaluate the model again",
                                  forced));
  const nlohmann::json one = extra_field(example, "completion"), several = extra_field(example, "completions");
  const auto completion = [&](const nlohmann::json& text) {
    if (!text.is_string()) refuse(example, "field 'completion(s)': expected text");
    Completion stored;
    stored.text = text.get<std::string>();
    return stored;
  };
  if (!one.is_null()) return {completion(one)};
  if (several.is_null())
    refuse(example, "has no field 'completion' to evaluate; add it, or give a model that makes completions");
  if (!several.is_array() || static_cast<int64_t>(several.size()) != k)
    refuse(example, fmt::format("field 'completions': expected a list of {} texts, one for each answer", k));
  std::vector<Completion> list;
  for (const nlohmann::json& text : several) list.push_back(completion(text));
  return list;
}

int64_t stored_tokens(const Example& example) {
  const nlohmann::json tokens = extra_field(example, "tokens");
  if (tokens.is_null()) return 0;
  if (!tokens.is_number_unsigned()) refuse(example, "field 'tokens': expected a whole number");
  return tokens.get<int64_t>();
}

double confidence_of(const SampledSet& set, size_t answer, ConfidenceSource source) {
  const std::vector<float>& log_probs = set.log_probs[answer];
  if (source == ConfidenceSource::kTagProbability && !set.answers.answers[answer].text.empty())
    return set.tag_probabilities[set.completion_index(answer)];
  if (log_probs.empty()) return std::numeric_limits<double>::quiet_NaN();
  double log_sum = 0, sum = 0;
  for (const float log_prob : log_probs) log_sum += log_prob, sum += std::exp(static_cast<double>(log_prob));
  return source == ConfidenceSource::kProbability ? std::exp(log_sum) : sum / static_cast<double>(log_probs.size());
}

}  // namespace

std::string_view to_string(AskMode mode) {
  return mode == AskMode::kSet ? "set" : mode == AskMode::kIndependent ? "independent" : "sequential";
}

std::string_view to_string(ConfidenceSource source) {
  return source == ConfidenceSource::kStated            ? "stated"
         : source == ConfidenceSource::kMeanProbability ? "mean_probability"
         : source == ConfidenceSource::kProbability     ? "probability"
                                                        : "answer_tag_probability";
}

std::vector<std::string> data_set_names(std::span<const std::string> files) {
  std::vector<std::string> names;
  for (const std::string& file : files) {
    const std::string stem = std::filesystem::path(file).stem().string();
    std::string name = stem;
    for (int copy = 2; std::find(names.begin(), names.end(), name) != names.end(); ++copy)
      name = fmt::format("{}_{}", stem, copy);
    names.push_back(name);
  }
  return names;
}

std::vector<TokenId> evaluation_prompt(const AskParts& parts, const Example& example, int64_t k,
                                       std::span<const std::string> excluded) {
  return parts.tokenizer.encode_chat(render_prompt(with_exclusion(example.prompt, excluded), parts.format, k));
}

std::vector<TokenId> sequential_prompt(const AskParts& parts, const SampledSet& set, int64_t answer) {
  std::vector<std::string> excluded;
  for (int64_t i = 0; i < answer; ++i)
    if (const std::string& text = set.answers.answers[static_cast<size_t>(i)].text; !text.empty())
      excluded.push_back(text);
  for (;;) {
    std::vector<TokenId> ids = evaluation_prompt(parts, *set.example, 1, excluded);
    if (excluded.empty() || static_cast<int64_t>(ids.size()) < parts.context_length) return ids;
    excluded.erase(excluded.begin());
  }
}

std::vector<SampledSet> sample_sets(const AskParts& parts, const AskOptions& options) {
  PLURAL_CHECK(options.num_answers >= 1 && options.samples_per_prompt >= 1,
               "num_answers and samples_per_prompt are at least 1");
  if (options.mode == AskMode::kSet && parts.format.single() && options.num_answers != 1)
    throw InputError(fmt::format("num_answers: format '{}' holds one answer, {} were asked for", parts.format.name(),
                                 options.num_answers));
  const auto count = static_cast<int64_t>(parts.examples.size()), samples = options.samples_per_prompt;
  std::vector<SampledSet> sets(static_cast<size_t>(count * samples));
  for (int64_t row = 0; row < count * samples; ++row) {
    SampledSet& set = sets[static_cast<size_t>(row)];
    set.prompt = row / samples;
    set.sample = row % samples;
    set.example = &parts.examples[static_cast<size_t>(set.prompt)];
    set.k = options.num_answers;
  }
  for (int64_t begin = 0; begin < count; begin += kPromptsAtOnce) {
    if (options.progress) options.progress(begin, count);
    const int64_t prompts = std::min(kPromptsAtOnce, count - begin);
    const std::span<SampledSet> chunk(sets.data() + begin * samples, static_cast<size_t>(prompts * samples));
    const auto first_row = static_cast<uint64_t>(begin * samples);
    if (options.mode == AskMode::kSequential)
      ask_in_turn(parts, options, first_row, chunk);
    else
      ask_at_once(parts, options, first_row, chunk);
    for (SampledSet& set : chunk) account_tokens(parts.tokenizer, &set);
    if (options.force_answers) force_answers(parts, options, chunk);
    if (options.force_confidences) force_confidences(parts, options, chunk);
  }
  if (options.progress) options.progress(count, count);
  return sets;
}

std::vector<int64_t> stored_num_answers(std::span<const Example> examples, int64_t most) {
  std::vector<int64_t> ks;
  for (const Example& example : examples) {
    const nlohmann::json asked = extra_field(example, "num_answers");
    if (asked.is_null()) continue;
    if (!asked.is_number_unsigned() || asked.get<uint64_t>() < 1 || asked.get<uint64_t>() > static_cast<uint64_t>(most))
      refuse(example, fmt::format("field 'num_answers': expected a whole number from 1 to {}", most));
    const auto k = asked.get<int64_t>();
    if (std::find(ks.begin(), ks.end(), k) == ks.end()) ks.push_back(k);
  }
  return ks;
}

std::vector<SampledSet> read_sets(std::span<const Example> examples, const AnswerFormat& format, int64_t k) {
  std::vector<SampledSet> sets;
  std::unordered_map<std::string, int64_t> prompts;
  std::vector<int64_t> samples;  // of each prompt so far
  for (const Example& example : examples) {
    const nlohmann::json asked = extra_field(example, "num_answers");
    if (asked.is_number() && asked.get<double>() != static_cast<double>(k)) continue;
    SampledSet set;
    set.example = &example;
    set.prompt = static_cast<int64_t>(samples.size());
    if (!example.id.empty()) set.prompt = prompts.emplace(example.id, set.prompt).first->second;
    if (set.prompt == static_cast<int64_t>(samples.size())) samples.push_back(0);
    set.sample = samples[static_cast<size_t>(set.prompt)]++;
    set.k = k;
    set.completions = stored_completions(example, k);
    set.tokens = stored_tokens(example);
    const bool one_each = extra_field(example, "completion").is_null();
    if (!one_each && format.single() && k != 1)
      refuse(example, fmt::format("format '{}' holds one answer, {} were asked for", format.name(), k));
    parse(format, one_each, &set);
    sets.push_back(std::move(set));
  }
  return sets;
}

double answer_tag_probability(const Tokenizer& tokenizer, std::span<const TokenId> ids,
                              std::span<const float> log_probs) {
  PLURAL_CHECK(ids.size() == log_probs.size(), "answer_tag_probability: one log-prob for each token");
  constexpr size_t kFarApart = 30;
  constexpr double kUnknown = 0.5;
  std::optional<size_t> close;
  for (size_t t = ids.size(); t-- > 0;) {
    if (tokenizer.token_bytes(ids[t]) != "answer") continue;
    if (!close) {
      close = t;
      continue;
    }
    if (*close - t >= kFarApart || *close - t < 2) return kUnknown;
    double sum = 0;
    for (size_t between = t + 1; between < *close; ++between) sum += std::exp(static_cast<double>(log_probs[between]));
    return sum / static_cast<double>(*close - t - 1);
  }
  return kUnknown;
}

void set_confidences(std::span<SampledSet> sets, ConfidenceSource source) {
  if (source == ConfidenceSource::kStated) return;
  for (SampledSet& set : sets) {
    if (set.log_probs.size() != set.answers.answers.size())
      throw InputError(fmt::format("confidence '{}' needs the model's log-probs; give a model", to_string(source)));
    for (size_t i = 0; i < set.answers.answers.size(); ++i) {
      Answer& answer = set.answers.answers[i];
      answer.confidence = confidence_of(set, i, source);
      answer.has_confidence = !std::isnan(answer.confidence);
      answer.confidence_bytes = {};
    }
  }
}

}  // namespace plural::eval
