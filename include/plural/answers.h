// SPDX-License-Identifier: Apache-2.0
// A completion read as a set of answers with confidences, and a batch of such sets as tensors.
// Parsing is pure, total and linear-time: bad model output is data, never an error.
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <span>
#include <stop_token>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "plural/config.h"
#include "plural/dataset.h"
#include "plural/tensor.h"
#include "plural/tokenizer.h"

namespace plural {

/// Half-open range [begin, end); empty when begin == end.
struct Span {
  int64_t begin = 0;
  int64_t end = 0;
  bool empty() const { return begin >= end; }
  bool operator==(const Span&) const = default;
};

/// One answer of a set, in the order in which the completion numbers them.
struct Answer {
  std::string text;    ///< trimmed text between the tags
  std::string normal;  ///< normal_form(text); answers are equal when these are
  /// The stated probability as written (may lie outside [0,1]); NaN when absent or not a number.
  double confidence = std::numeric_limits<double>::quiet_NaN();
  bool has_confidence = false;  ///< a confidence block belongs to this answer (its number may be invalid)
  Span answer_bytes;            ///< bytes of the completion, opening tag included
  Span confidence_bytes;        ///< the same for the confidence block; empty when absent
};

/// What AnswerFormat::parse returns. `answers[i]` is the answer numbered i+1; at most K entries. A number that the
/// completion leaves out before its last answer is an entry with empty `answer_bytes`.
struct AnswerSet {
  std::vector<Answer> answers;
  /// Confidences numbered answers.size() + 1, ... up to at most K: those after the last answer, which belong to none.
  /// Read as Answer::confidence. Always empty in formats of one answer.
  std::vector<double> lone_confidences;
  /// The number in the last un-numbered confidence block, one for the whole set; NaN when it is no number.
  double overall_confidence = std::numeric_limits<double>::quiet_NaN();
  bool has_overall_confidence = false;  ///< there is such a block
  bool format_ok = false;               ///< the format reward's verdict (spec section 3, corrected rules)
  bool extracted = false;               ///< the K answers (and confidences) needed were found, each exactly once
  bool paired = false;                  ///< K answers were found, each exactly once and each with a confidence block
  int64_t blocks_needed = 0;            ///< blocks that the format asks for: answers, confidences, think, analysis
  int64_t blocks_ok = 0;                ///< those that stand in the completion once and hold what they should
  std::string problem;                  ///< first reason why format_ok is false, for people; "" when fine
};

/// An answer with its confidence, to be written in a format (targets of fine-tuning).
struct StatedAnswer {
  std::string text;
  double confidence = 0.5;
};

/// The largest K. A completion may number its answers as it likes; memory is bounded by K, not by what it wrote.
inline constexpr int64_t kMaxAnswers = 10'000;

/// A way of writing K answers and confidences in one completion. Stateless and thread-safe.
class AnswerFormat {
 public:
  virtual ~AnswerFormat() = default;
  virtual std::string name() const = 0;
  virtual bool has_confidences() const = 0;
  /// Formats that hold one answer only: `k` is taken as 1 whatever it is.
  virtual bool single() const { return false; }
  /// The text appended to a task so that the model answers in this format. K >= 1.
  virtual std::string instruction(int64_t k) const = 0;
  /// Reads any bytes; never throws because of them. 1 <= K <= kMaxAnswers, else CheckError. Linear in text and K.
  virtual AnswerSet parse(std::string_view completion, int64_t k) const = 0;
  /// Writes a completion that parse(..., answers.size()) reads back with format_ok. An answer that is empty or
  /// holds a tag, a confidence outside [0, 1], or a wrong number of answers throws InputError.
  virtual std::string render(std::span<const StatedAnswer> answers) const = 0;
};

/// The bundled formats by name (spec/official_rewards.md section 2 and the compact ones without a
/// think block). An unknown name throws InputError with the list of names.
std::unique_ptr<AnswerFormat> make_answer_format(std::string_view name);
std::vector<std::string> answer_format_names();

/// The form in which answers are compared: NFC, lower-case, punctuation deleted, articles dropped,
/// spaces joined (spec/official_rewards.md 1.6, RIGHT rule). Any bytes; cost linear.
std::string normal_form(std::string_view text);

/// The messages of a prompt with the format's instruction for K answers appended to the last user turn.
std::vector<Message> render_prompt(const std::vector<Message>& prompt, const AnswerFormat& format, int64_t k);

/// Maps a byte range of a completion to the token range that covers it: token i is in the range when
/// it holds at least one byte of it. `ids` are the completion's ids.
Span token_span(const Tokenizer& tokenizer, std::span<const TokenId> ids, Span bytes);

// ---------------------------------------------------------------------------------------------------

/// A matcher made ready for one example. Valid while matcher and example live; as the matcher, for several threads at a
/// time.
struct PreparedMatch {
  std::function<int64_t(const Answer&)> match;  ///< one look-up a candidate
  std::vector<int64_t> owners{};                ///< Matcher::gold_owners where it comes with the work, else empty
};

/// One candidate and the example whose gold answers it is held against.
struct MatchQuestion {
  const Answer* candidate;
  const Example* example;
};

struct MatchVerdicts {
  std::vector<int64_t> gold{};  ///< one for each question: index of the gold answer, or -1
  /// Matcher::gold_owners of the examples asked about, of those where it came with the work.
  std::unordered_map<const Example*, std::vector<int64_t>> owners{};
  std::map<std::string, double> metrics{};  ///< named counts for the log, e.g. "failures"
  std::string problem{};                    ///< why a question could not be answered, for people; "" when all could
};

/// Which gold answer (or none) a candidate is. Thread-safe.
class Matcher {
 public:
  virtual ~Matcher() = default;
  virtual std::string name() const = 0;
  /// Index of the gold answer that `candidate` is, or -1. To a matcher that compares normal forms an empty one (of "a",
  /// "the", "...") matches nothing.
  virtual int64_t match(const Answer& candidate, const Example& example) const = 0;
  /// match() with the work on the gold answers done once. Override it where that saves time.
  virtual PreparedMatch prepare(const Example& example) const {
    return {[this, &example](const Answer& candidate) { return match(candidate, example); }};
  }
  /// match() of many questions at once: what build_answer_batch calls. Override it where asking together saves time.
  /// One that waits for something outside bounds its time itself, and returns soon once `stop` asks for it; what has no
  /// answer by then is no match.
  virtual MatchVerdicts match_all(std::span<const MatchQuestion> questions, const std::stop_token& stop = {}) const;
  /// For each gold answer, the one that stands for it: itself where its answer or an alias matches it; another one
  /// where its spellings are that one's (a gold answer that is listed twice); -1 where they match nothing. Asks
  /// prepare()'s function about the spellings: override it where a question is dear.
  virtual std::vector<int64_t> gold_owners(const Example& example) const;
  /// Key under which two candidates count as the same answer (default: the normal form). "" = the candidate does not
  /// count as an answer of its own, unless it matches a gold answer: then its text is its key.
  virtual std::string key(const Answer& candidate) const { return candidate.normal; }
};

/// "normalised" (equal normal forms of answer), "alias" (answer or any alias), "word_set" (equal sets of
/// singular-folded words, aliases included); with options: "numeric" (numbers within a tolerance), "external" (asks
/// worker processes), "code" (runs programs against tests), "judge" (asks another model over HTTP). docs/guides/
/// matchers.md has the rules. `variables` is asked for the secrets that options name (`api_key_env`). Unknown names and
/// options throw InputError.
std::unique_ptr<Matcher> make_matcher(std::string_view name, const ConfigNode& options = {},
                                      const VariableLookup& variables = {});

/// B parsed completions as tensors on one device: all that rewards and credit need. K = slots.
/// Slots past a row's last answer have `present` false and match -1.
struct AnswerBatch {
  int64_t rows = 0;             ///< B
  int64_t slots = 0;            ///< K
  bool single_answer = false;   ///< the format holds one answer only
  bool has_confidences = true;  ///< the format asks for confidences
  Tensor present;               ///< [B, K] bool: the slot holds an answer block
  Tensor match;                 ///< [B, K] int64: gold index, -1 = none
  Tensor key;                   ///< [B, K] int64: equal within a row = the same answer; -1 = nameless or absent
  Tensor confidence;            ///< [B, K] float32 clipped to [0, 1], 0 where invalid or absent
  Tensor confidence_stated;     ///< [B, K] bool: a number, whatever its range
  Tensor confidence_ok;         ///< [B, K] bool: a number in [0, 1]
  /// [B, K] float32: `confidence` of slots without an answer, too; NaN where absent or no number.
  Tensor numbered_confidence;
  Tensor overall_confidence;         ///< [B] float32 clipped to [0, 1], 0 where invalid or absent
  Tensor overall_confidence_stated;  ///< [B] bool: a number, whatever its range
  Tensor has_overall_confidence;     ///< [B] bool: an un-numbered confidence block stands in the completion
  Tensor format_ok;                  ///< [B] bool
  Tensor blocks_ok;                  ///< [B] float32: AnswerSet::blocks_ok / blocks_needed; format_ok without these
  Tensor extracted;                  ///< [B] bool, AnswerSet::extracted
  Tensor paired;                     ///< [B] bool, AnswerSet::paired
  Tensor k;                          ///< [B] int64: answers asked for in this row (<= K)
  Tensor gold_count;                 ///< [B] int64: different gold answers that can be matched (Matcher::gold_owners)
  Tensor gold_weight;                ///< [B, Y] float32: their weights normalised to sum 1, 0 for others and padding
  Tensor answer_span;                ///< [B, K, 2] int64: token range in the completion; 0,0 = none
  Tensor confidence_span;            ///< [B, K, 2] int64
  Tensor length;                     ///< [B] int64: completion tokens
  std::vector<AnswerSet> sets;       ///< the host's view, B entries
  std::map<std::string, double> match_metrics;  ///< MatchVerdicts::metrics
  std::string match_problem;                    ///< MatchVerdicts::problem

  /// z: [B, K] float32, 1 where the slot is correct (match >= 0).
  Tensor correct() const;
  /// [B, K] float32: correct and the first slot of its row that hits this gold answer.
  Tensor first_hit() const;
  /// [B, K] bool: present and the first slot of its row with this key (a distinct answer).
  Tensor first_of_key() const;
  /// The same rows with only the slots of `keep` ([B, K] bool): the others are as if not written. K and the verdicts
  /// on the whole completion (format_ok, extracted, paired) stay, and so do spans and the host's view.
  AnswerBatch keep(const Tensor& keep) const;
  AnswerBatch to(at::Device device) const;
};

/// One completion to be parsed.
struct CompletionView {
  const Example* example = nullptr;
  std::string_view text;
  std::span<const TokenId> ids;  ///< may be empty: then token spans are all empty
  int64_t k = 1;                 ///< answers asked for
};

/// Parses, matches and packs, rows in parallel. Host work only here; everything after is tensor work on `device`.
/// `tokenizer` may be null when no ids are given. `dtype` is that of the confidences and gold weights, and so of
/// the rewards computed from them: float32, or float64 where the last digits count. `stop` is for the matcher: once it
/// asks to stop, Interrupted is thrown, as the verdicts are not all there.
AnswerBatch build_answer_batch(std::span<const CompletionView> completions, const AnswerFormat& format,
                               const Matcher& matcher, const Tokenizer* tokenizer, at::Device device = at::kCPU,
                               at::ScalarType dtype = at::kFloat, const std::stop_token& stop = {});

}  // namespace plural
