// SPDX-License-Identifier: Apache-2.0
#include "lib/eval/forced_completion.h"

#include <algorithm>

#include "lib/core/format.h"
#include "lib/text/normal_form.h"

namespace plural::eval {
namespace {

constexpr int64_t kAnswerTokens = 50, kConfidenceTokens = 20;

/// Something to be continued: completion `piece` of a set, for its answer `answer`.
struct Gap {
  SampledSet* set;
  size_t piece, answer;
  std::string phrase;
};

/// The conversation up to the end of the completion, and the phrase.
std::vector<TokenId> continued_prompt(const AskParts& parts, const AskOptions& options, const Gap& gap) {
  std::vector<TokenId> ids = options.mode == AskMode::kSequential
                                 ? sequential_prompt(parts, *gap.set, static_cast<int64_t>(gap.piece))
                                 : evaluation_prompt(parts, *gap.set->example,
                                                     options.mode == AskMode::kSet ? options.num_answers : 1);
  for (const TokenId id : gap.set->completions[gap.piece].ids)
    if (!parts.tokenizer.is_special(id)) ids.push_back(id);  // the turn must not end before the phrase
  const std::vector<TokenId> phrase = parts.tokenizer.encode(gap.phrase);
  ids.insert(ids.end(), phrase.begin(), phrase.end());
  return ids;
}

/// Greedy continuations; nullopt for gaps whose text fills the context.
std::vector<std::optional<Completion>> continue_greedily(const AskParts& parts, const AskOptions& options,
                                                         const std::vector<Gap>& gaps, int64_t max_tokens) {
  std::vector<std::optional<Completion>> continued(gaps.size());
  std::vector<std::vector<TokenId>> prompts;
  std::vector<size_t> place;
  for (size_t i = 0; i < gaps.size(); ++i) {
    std::vector<TokenId> ids = continued_prompt(parts, options, gaps[i]);
    if (static_cast<int64_t>(ids.size()) + max_tokens > parts.context_length) continue;
    prompts.push_back(std::move(ids));
    place.push_back(i);
  }
  if (prompts.empty()) return continued;
  SamplingOptions greedy;
  greedy.max_new_tokens = max_tokens;
  greedy.temperature = 0;
  greedy.stop = {"\n", "<"};
  greedy.max_rows = options.sampling.max_rows;
  RolloutBatch batch = parts.engine.generate(prompts, greedy, {});
  for (size_t i = 0; i < place.size(); ++i) continued[place[i]] = std::move(batch.rows[i]);
  return continued;
}

/// Appends `<tag>text</tag>` to the completion; returns its bytes.
Span append_block(const std::string& tag, std::string_view text, Completion* completion) {
  const auto begin = static_cast<int64_t>(completion->text.size()) + 1;
  completion->text += fmt::format("\n<{0}>{1}</{0}>", tag, text);
  return {begin, static_cast<int64_t>(completion->text.size())};
}

/// Tags of answer `i` (0-based) in a completion that was asked for several answers, or for one.
std::string tag(const char* kind, const AskParts& parts, const AskOptions& options, size_t i) {
  if (parts.format.single()) return kind;
  return fmt::format("{}{}", kind, options.mode == AskMode::kSet ? i + 1 : 1);
}

void spend(const Completion& completion, size_t answer, SampledSet* set) {
  const auto tokens = static_cast<int64_t>(completion.ids.size());
  set->tokens += tokens;
  // Later answers of a set of completions come after it; those of one completion were written before.
  for (size_t i = answer; i < set->tokens_at.size(); ++i) set->tokens_at[i] += tokens;
}

}  // namespace

std::optional<double> read_percentage(std::string_view text) {
  std::string_view word = trim(text);
  word = word.substr(0, word.find_first_of(" \t\r\n"));
  if (!word.empty() && word.back() == '.') word.remove_suffix(1);
  if (!word.empty() && word.back() == '%') word.remove_suffix(1);
  const auto value = parse_number(word);
  if (!value || !(*value >= 0 && *value <= 100)) return std::nullopt;
  return *value / 100;
}

void force_answers(const AskParts& parts, const AskOptions& options, std::span<SampledSet> sets) {
  std::vector<Gap> gaps;
  for (SampledSet& set : sets) {
    if (options.mode == AskMode::kSet) {
      if (set.answers.answers.empty()) gaps.push_back({&set, 0, 0, "\nFinal answer:"});
      continue;
    }
    for (size_t i = 0; i < set.completions.size(); ++i)
      if (set.answers.answers[i].answer_bytes.empty()) gaps.push_back({&set, i, i, "\nFinal answer:"});
  }
  const auto continued = continue_greedily(parts, options, gaps, kAnswerTokens);
  for (size_t g = 0; g < gaps.size(); ++g) {
    if (!continued[g]) continue;
    SampledSet& set = *gaps[g].set;
    const std::string_view text = trim(continued[g]->text);
    if (text.empty()) continue;
    if (set.answers.answers.empty()) {
      set.answers.answers.emplace_back();
      set.log_probs.emplace_back();
      set.tokens_at.push_back(set.tokens);
    }
    Answer& answer = set.answers.answers[gaps[g].answer];
    answer.text = text;
    answer.normal = normal_form(text);
    answer.answer_bytes = append_block(tag("answer", parts, options, gaps[g].answer), text,
                                       &set.completions[gaps[g].piece]);
    // Of the text alone, without the space before it and the end after it.
    const auto begin = static_cast<int64_t>(text.data() - continued[g]->text.data());
    const Span tokens = token_span(parts.tokenizer, continued[g]->ids,
                                   {begin, begin + static_cast<int64_t>(text.size())});
    const auto first = continued[g]->log_probs.begin();
    set.log_probs[gaps[g].answer].assign(first + tokens.begin, first + tokens.end);
    spend(*continued[g], gaps[g].answer, &set);
    ++set.forced_answers;
  }
}

void force_confidences(const AskParts& parts, const AskOptions& options, std::span<SampledSet> sets) {
  if (!parts.format.has_confidences()) return;
  std::vector<Gap> gaps;
  for (SampledSet& set : sets)
    for (size_t i = 0; i < set.answers.answers.size(); ++i) {
      const Answer& answer = set.answers.answers[i];
      if (answer.answer_bytes.empty() || (answer.confidence >= 0 && answer.confidence <= 1)) continue;
      gaps.push_back({&set, set.completions.size() > 1 ? i : 0, i,
                      fmt::format("\nProbability that \"{}\" is correct, from 0 to 100:", answer.text)});
    }
  const auto continued = continue_greedily(parts, options, gaps, kConfidenceTokens);
  for (size_t g = 0; g < gaps.size(); ++g) {
    if (!continued[g]) continue;
    SampledSet& set = *gaps[g].set;
    spend(*continued[g], gaps[g].answer, &set);
    const auto value = read_percentage(continued[g]->text);
    if (!value) continue;
    Answer& answer = set.answers.answers[gaps[g].answer];
    answer.confidence = *value;
    answer.has_confidence = true;
    answer.confidence_bytes = append_block(tag("confidence", parts, options, gaps[g].answer), fmt::format("{}", *value),
                                           &set.completions[gaps[g].piece]);
    ++set.forced_confidences;
  }
}

void force_all(const AskParts& parts, const AskOptions& options, std::span<SampledSet> sets) {
  force_answers(parts, options, sets);
  force_confidences(parts, options, sets);
}

}  // namespace plural::eval
