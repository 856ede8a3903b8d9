// SPDX-License-Identifier: Apache-2.0
// Sets of answers drawn from a model, or read from a file: how they are asked for, what each answer cost, and where its
// confidence comes from.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "plural/answers.h"
#include "plural/policy.h"
#include "plural/rollout.h"

namespace plural::eval {

/// How K answers are asked for.
enum class AskMode {
  kSet,          ///< one completion of K answers
  kIndependent,  ///< K completions of one answer each, drawn independently
  kSequential,   ///< the same one after the other, each prompt naming the answers so far, which are not to be given
                 ///< again
};
std::string_view to_string(AskMode mode);

/// What counts as an answer's confidence. `log p` are those of the tokens that hold the answer's text, under the
/// sampling temperature (1 for greedy completions).
enum class ConfidenceSource {
  kStated,
  kMeanProbability,  ///< mean of the tokens' probabilities
  kProbability,      ///< their product: the probability of the whole text
  /// `answer_tag_probability` of the answer's completion, the baseline of the reference code: one number for all the
  /// answers of a completion.
  kTagProbability,
};
std::string_view to_string(ConfidenceSource source);

struct AskOptions {
  int64_t num_answers = 3;         ///< K
  int64_t samples_per_prompt = 1;  ///< sets drawn for each prompt
  AskMode mode = AskMode::kSet;
  /// Completions without any answer are continued greedily after a fixed phrase (spec/official_rewards.md 7.10 a); so
  /// are those with an answer that has no usable confidence, once for each such answer (7.10 b).
  bool force_answers = false, force_confidences = false;
  SamplingOptions sampling;
  uint64_t seed = 1;
  /// Called now and then with (prompts done, all prompts). May be empty.
  std::function<void(int64_t, int64_t)> progress;
};

/// What asking works with; borrowed.
struct AskParts {
  RolloutEngine& engine;
  const Tokenizer& tokenizer;
  std::span<const Example> examples;
  const AnswerFormat& format;
  int64_t context_length;  ///< of the model
};

/// A set of answers to one prompt.
struct SampledSet {
  const Example* example = nullptr;
  int64_t prompt = 0;  ///< which prompt, from 0
  int64_t sample = 0;  ///< which of its sets
  int64_t k = 1;       ///< answers asked for
  /// One, or K of one answer each; what was forced is appended to the text (not to the ids).
  std::vector<Completion> completions;
  AnswerSet answers;                          ///< bytes are of the answer's own completion
  std::vector<std::vector<float>> log_probs;  ///< of each answer's text tokens; empty = not known
  std::vector<double> tag_probabilities;      ///< `answer_tag_probability` of each completion; empty = not known
  std::vector<int64_t> tokens_at;             ///< spent when the answer was written; empty = not known
  int64_t tokens = 0;                         ///< all; 0 = not known
  int64_t forced_answers = 0, forced_confidences = 0;
  /// The number of the completion that holds the answer, and the completion.
  size_t completion_index(size_t answer) const { return completions.size() > 1 ? answer : 0; }
  const Completion& completion_of(size_t answer) const { return completions[completion_index(answer)]; }
};

/// A short name for each data file: its stem, with "_2", "_3" ... where another file has it already.
std::vector<std::string> data_set_names(std::span<const std::string> files);

/// The prompt of an example asking for k answers other than `excluded`, as ids.
std::vector<TokenId> evaluation_prompt(const AskParts& parts, const Example& example, int64_t k,
                                       std::span<const std::string> excluded = {});
/// The prompt of answer number `answer` (from 0) in sequential mode: all answers before it are excluded, but for the
/// earliest ones where the context has no room for all.
std::vector<TokenId> sequential_prompt(const AskParts& parts, const SampledSet& set, int64_t answer);

/// Deterministic given the seed: completion r of the whole data set draws from (seed, step, r), step being the number
/// of answers so far in sequential mode and else 0. K > 1 in one completion with a format for one answer throws
/// InputError.
std::vector<SampledSet> sample_sets(const AskParts& parts, const AskOptions& options);

/// The K that the fields "num_answers" of stored sets name, in order of first occurrence. What is no whole number from
/// 1 to `most` throws InputError naming the example.
std::vector<int64_t> stored_num_answers(std::span<const Example> examples, int64_t most);

/// Sets that lie in the data: an example is one of a prompt's sets, and examples with one id are sets of one prompt
/// (one without an id is a prompt of its own). Its field "completion" holds the text (or "completions" K texts of one
/// answer each), "tokens" what they cost. Examples whose field "num_answers" is a number other than `k` are left out. A
/// missing or misshapen field throws InputError naming the example; so do sets that hold forced blocks, and K > 1 in
/// one completion of a format for one answer.
std::vector<SampledSet> read_sets(std::span<const Example> examples, const AnswerFormat& format, int64_t k);

/// Mean probability of the tokens between the last two tokens that read exactly `answer` (those of `<answer>` and
/// `</answer>` where the tokenizer makes the name one token); 0.5 if there are fewer than two, if they are 30 or more
/// tokens apart, or if nothing lies between them. `log_probs[t]` belongs to `ids[t]`. spec/official_rewards.md 7.10 c.
double answer_tag_probability(const Tokenizer& tokenizer, std::span<const TokenId> ids,
                              std::span<const float> log_probs);

/// Replaces the stated confidences. Answers without known log-probs get none; a set read from a file throws InputError.
void set_confidences(std::span<SampledSet> sets, ConfidenceSource source);

}  // namespace plural::eval
