// SPDX-License-Identifier: Apache-2.0
// The bundled answer formats: one table of traits, one parser (docs/reference_quirks.md lists where the rules are
// stricter than the reference code).
#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <optional>

#include "lib/core/format.h"
#include "lib/text/answer_parser.h"
#include "lib/text/normal_form.h"
#include "lib/text/verbalised_format.h"
#include "plural/answers.h"
#include "plural/error.h"

namespace plural {
namespace {

struct FormatTraits {
  std::string_view name;
  bool single;                  ///< one answer in plain tags
  bool confidences;             ///< asked for, and needed
  bool think;                   ///< a think block is needed
  bool balanced;                ///< think tags must be balanced and non-empty
  bool analysis;                ///< an analysis block is needed
  bool in_order;                ///< answers (and confidences) must stand in the order of their numbers
  bool alone = false;           ///< nothing but white space may stand besides the blocks
  bool analysis_first = false;  ///< where render() and the instruction put the analysis
};

constexpr std::array<FormatTraits, 11> kFormats = {{
    {"compact", false, true, false, false, false, true, true},
    {"compact_rlvr", false, false, false, false, false, true, true},
    {"multi_answer", false, true, true, true, true, false},
    {"multi_answer_no_analysis", false, true, true, true, false, false},
    {"multi_answer_rlvr", false, false, true, true, false, true},
    {"rlcr_single_answer", true, true, true, true, true, false},
    {"rlvr_single_answer", true, false, true, true, false, false},
    {"ta", true, false, true, false, false, false},
    {"tac", true, true, true, false, false, false},
    {"tabc", true, true, true, false, true, false},
    {"tbac", true, true, true, false, true, false, false, true},
}};

std::string_view part(std::string_view text, Span span) {
  return text.substr(static_cast<size_t>(span.begin), static_cast<size_t>(span.end - span.begin));
}

/// Bytes of answer text that a set may hold. Answers that lie within one another (tags do not nest) could hold the
/// completion K times over; those past the limit are read as empty, so that parsing stays linear. No set of up to 4
/// answers comes near it, nor any completion of up to 64 KiB / (K - 4).
size_t answer_text_limit(std::string_view completion) { return 4 * completion.size() + (size_t{1} << 16); }

/// A confidence as written. A number holds no '<': looking for one first reads a block that lies around other blocks up
/// to the next tag only, where trimming and reading all of it would make K such blocks cost K times the completion.
double read_confidence(std::string_view text) {
  if (text.find('<') != std::string_view::npos) return std::numeric_limits<double>::quiet_NaN();
  return parse_number(trim(text)).value_or(std::numeric_limits<double>::quiet_NaN());
}

class TaggedFormat final : public AnswerFormat {
 public:
  explicit TaggedFormat(const FormatTraits& traits) : traits_(traits) {}

  std::string name() const override { return std::string(traits_.name); }
  bool has_confidences() const override { return traits_.confidences; }
  bool single() const override { return traits_.single; }
  std::string instruction(int64_t k) const override;
  AnswerSet parse(std::string_view completion, int64_t k) const override;
  std::string render(std::span<const StatedAnswer> answers) const override;

 private:
  /// The block of answer or confidence `i` (1-based) of `k`.
  const Block& block(const TagIndex& index, TagKind kind, int64_t i, int64_t k) const;
  /// `text_left`: bytes of answer text that the set may still hold; what this answer holds is taken off.
  Answer read_answer(std::string_view text, const TagIndex& index, int64_t i, int64_t k, size_t* text_left) const;
  /// Why the format reward is 0, or "".
  std::string find_problem(std::string_view text, const AnswerSet& set, const TagIndex& index, int64_t k) const;
  std::string find_order_problem(const AnswerSet& set) const;
  std::string find_other_text(std::string_view text, const AnswerSet& set) const;
  /// Fills in blocks_needed and blocks_ok.
  void count_blocks(AnswerSet& set, const TagIndex& index, int64_t k) const;
  std::string number(int64_t i) const { return traits_.single ? "" : fmt::format("{}", i); }

  FormatTraits traits_;
};

const Block& TaggedFormat::block(const TagIndex& index, TagKind kind, int64_t i, int64_t k) const {
  if (traits_.single) return index.block(kind, 0);
  // A set of one may be written with plain tags; numbered ones win.
  if (k == 1 && traits_.think && index.block(kind, 1).openings == 0) return index.block(kind, 0);
  return index.block(kind, i);
}

Answer TaggedFormat::read_answer(std::string_view text, const TagIndex& index, int64_t i, int64_t k,
                                 size_t* text_left) const {
  Answer answer;
  const Block& stated = block(index, TagKind::kAnswer, i, k);
  if (stated.found) {
    // Of several plain blocks the last one counts; repeated numbered ones are rejected, so either would do.
    const bool plain = traits_.single || (k == 1 && index.block(TagKind::kAnswer, 1).openings == 0);
    const std::string_view words = part(text, plain ? stated.last_text : stated.first_text);
    if (words.size() <= *text_left) {
      *text_left -= words.size();
      answer.text = trim(words);
      answer.normal = normal_form(answer.text);
    }
    answer.answer_bytes = plain ? stated.last : stated.first;
  }
  const Block& confidence = block(index, TagKind::kConfidence, i, k);
  if (confidence.found) {
    const bool plain = traits_.single || (k == 1 && index.block(TagKind::kConfidence, 1).openings == 0);
    answer.has_confidence = true;
    answer.confidence_bytes = plain ? confidence.last : confidence.first;
    answer.confidence = read_confidence(part(text, plain ? confidence.last_text : confidence.first_text));
  }
  return answer;
}

/// The confidences numbered `answers` + 1 to K, as far as there are any.
std::vector<double> read_lone_confidences(std::string_view text, const TagIndex& index, size_t answers, int64_t k) {
  std::vector<double> confidences;
  const int64_t last = std::min(k, index.largest(TagKind::kConfidence));
  for (auto i = static_cast<int64_t>(answers) + 1; i <= last; ++i) {
    const Block& block = index.block(TagKind::kConfidence, i);
    confidences.push_back(block.found ? read_confidence(part(text, block.first_text))
                                      : std::numeric_limits<double>::quiet_NaN());
  }
  return confidences;
}

AnswerSet TaggedFormat::parse(std::string_view completion, int64_t k) const {
  PLURAL_CHECK(k >= 1 && k <= kMaxAnswers, fmt::format("a set has 1 to {} answers, got k = {}", kMaxAnswers, k));
  if (traits_.single) k = 1;
  const TagIndex index(completion, k);
  AnswerSet set;
  const int64_t slots = traits_.single || k == 1 ? 1 : std::min(k, index.largest(TagKind::kAnswer));
  bool all_found = slots == k, all_paired = true, repeated = false;
  size_t text_left = answer_text_limit(completion);
  set.answers.reserve(static_cast<size_t>(slots));
  for (int64_t i = 1; i <= slots; ++i) {
    set.answers.push_back(read_answer(completion, index, i, k, &text_left));
    const Answer& answer = set.answers.back();
    all_found = all_found && !answer.answer_bytes.empty();
    all_paired = all_paired && answer.has_confidence;
    if (!traits_.single) {
      repeated = repeated || index.block(TagKind::kAnswer, i).openings > 1;
      repeated = repeated || index.block(TagKind::kConfidence, i).openings > 1;
    }
  }
  while (!set.answers.empty() && set.answers.back().answer_bytes.empty()) set.answers.pop_back();
  if (!traits_.single) set.lone_confidences = read_lone_confidences(completion, index, set.answers.size(), k);
  if (const Block& overall = index.block(TagKind::kConfidence, 0); overall.found) {
    set.has_overall_confidence = true;
    if (const auto value = parse_number(part(completion, overall.last_text))) set.overall_confidence = *value;
  }
  const bool ordered = !traits_.in_order || find_order_problem(set).empty();
  set.paired = all_found && all_paired && !repeated;
  set.extracted = all_found && !repeated && ordered && (all_paired || !traits_.confidences);
  set.problem = find_problem(completion, set, index, k);
  set.format_ok = set.problem.empty();
  count_blocks(set, index, k);
  return set;
}

void TaggedFormat::count_blocks(AnswerSet& set, const TagIndex& index, int64_t k) const {
  const auto count = [&set](bool needed, bool ok) {
    set.blocks_needed += needed;
    set.blocks_ok += needed && ok;
  };
  const auto once = [&](TagKind kind, int64_t i) { return traits_.single || index.block(kind, i).openings <= 1; };
  count(traits_.think, traits_.balanced ? index.think_ok() : index.has_think());
  count(traits_.analysis, index.block(TagKind::kAnalysis, 0).found);
  set.blocks_needed += traits_.confidences ? 2 * k : k;
  for (size_t i = 0; i < set.answers.size(); ++i) {
    const Answer& answer = set.answers[i];
    const auto number = static_cast<int64_t>(i + 1);
    if (answer.text.empty()) continue;  // a confidence in nothing is none
    set.blocks_ok += once(TagKind::kAnswer, number);
    set.blocks_ok += traits_.confidences && answer.confidence >= 0 && answer.confidence <= 1 &&
                     once(TagKind::kConfidence, number);
  }
}

std::string TaggedFormat::find_order_problem(const AnswerSet& set) const {
  int64_t end = 0;
  for (size_t i = 0; i < set.answers.size(); ++i) {
    const Answer& answer = set.answers[i];
    if (answer.answer_bytes.begin < end) return fmt::format("answer {} stands out of order", i + 1);
    end = answer.answer_bytes.end;
    if (!traits_.confidences) continue;
    if (answer.confidence_bytes.begin < end) return fmt::format("confidence {} stands out of order", i + 1);
    end = answer.confidence_bytes.end;
  }
  return "";
}

// For blocks in order.
std::string TaggedFormat::find_other_text(std::string_view text, const AnswerSet& set) const {
  Span between;
  for (size_t i = 0; i < set.answers.size(); ++i) {
    const Answer& answer = set.answers[i];
    between.end = answer.answer_bytes.begin;
    if (!trim(part(text, between)).empty()) return fmt::format("something else stands before answer {}", i + 1);
    between.begin = answer.answer_bytes.end;
    if (!traits_.confidences) continue;
    between.end = answer.confidence_bytes.begin;
    if (!trim(part(text, between)).empty()) return fmt::format("something else stands before confidence {}", i + 1);
    between.begin = answer.confidence_bytes.end;
  }
  between.end = static_cast<int64_t>(text.size());
  return trim(part(text, between)).empty() ? "" : "something else stands after the last answer";
}

std::string TaggedFormat::find_problem(std::string_view text, const AnswerSet& set, const TagIndex& index,
                                       int64_t k) const {
  if (traits_.think && !index.has_think()) return "no think block";
  if (traits_.balanced && !index.think_ok()) return "think tags are unbalanced or a think block is empty";
  for (int64_t i = 1; i <= k; ++i) {
    const Answer* answer = i <= static_cast<int64_t>(set.answers.size()) ? &set.answers[static_cast<size_t>(i - 1)]
                                                                         : nullptr;
    if (answer == nullptr || answer->answer_bytes.empty()) return fmt::format("no <answer{}> block", number(i));
    if (answer->text.empty()) return fmt::format("answer {} is empty", i);
    if (!traits_.single && block(index, TagKind::kAnswer, i, k).openings > 1 &&
        index.block(TagKind::kAnswer, i).openings > 1)
      return fmt::format("<answer{}> is repeated", i);
    if (!traits_.single && index.block(TagKind::kConfidence, i).openings > 1)
      return fmt::format("<confidence{}> is repeated", i);
    if (!traits_.confidences) continue;
    if (!answer->has_confidence) return fmt::format("no <confidence{}> block", number(i));
    if (!(answer->confidence >= 0 && answer->confidence <= 1))
      return fmt::format("confidence {} is no number from 0 to 1", i);
  }
  if (index.largest(TagKind::kAnswer) > k)
    return fmt::format("<answer{}> goes beyond the {} answers asked for", index.largest(TagKind::kAnswer), k);
  if (traits_.in_order) {
    if (const std::string problem = find_order_problem(set); !problem.empty()) return problem;
  }
  if (traits_.alone) {
    if (const std::string problem = find_other_text(text, set); !problem.empty()) return problem;
  }
  const Block& analysis = index.block(TagKind::kAnalysis, 0);
  if (traits_.analysis && !analysis.found) return "no analysis block";
  if (traits_.think && analysis.openings > 0 && analysis.closings > 0 &&
      analysis.first_closing < analysis.first_opening)
    return "an analysis tag closes before it opens";
  return "";
}

std::string TaggedFormat::instruction(int64_t k) const {
  PLURAL_CHECK(k >= 1, fmt::format("a set needs at least 1 answer, got k = {}", k));
  if (traits_.single) k = 1;
  const std::string_view probability = "probability that it is correct, 0 to 1";
  const std::string one = number(1);
  std::string block = fmt::format("<answer{}>answer</answer{}>", one, one);
  const std::string confidence = fmt::format("<confidence{}>{}</confidence{}>", one, probability, one);
  const std::string_view analysis = "<analysis>where you may be wrong</analysis>";
  if (traits_.confidences && !(traits_.single && traits_.analysis)) block += confidence;

  std::string text;
  if (traits_.think) text = "First think inside <think></think>. ";
  if (traits_.single) {
    if (traits_.analysis_first)
      block = fmt::format("{}{}{}", analysis, block, confidence);
    else if (traits_.analysis)
      block = fmt::format("{}{}{}", block, analysis, confidence);
    return fmt::format("{}{}ive one answer as {}{}", text, text.empty() ? "G" : "Then g", block,
                       traits_.think ? "." : " and nothing else.");
  }
  text += text.empty() ? "G" : "Then g";
  if (k == 1)
    text += fmt::format("ive 1 answer. Write it as {}", block);
  else
    text += fmt::format("ive {} different answers. Write each as {}, numbered 1 to {}", k, block, k);
  if (traits_.analysis) text += fmt::format(", then {}", analysis);
  text += traits_.think ? "." : k == 1 ? " and nothing else." : ", and nothing else.";
  return text;
}

std::string TaggedFormat::render(std::span<const StatedAnswer> answers) const {
  if (answers.empty() || (traits_.single && answers.size() != 1))
    throw InputError(fmt::format("format {} holds {}, got {} answers", traits_.name,
                                 traits_.single ? "exactly 1 answer" : "at least 1 answer", answers.size()));
  std::string body;
  for (size_t i = 0; i < answers.size(); ++i) {
    const StatedAnswer& answer = answers[i];
    const std::string text(trim(answer.text));
    if (text.empty() || TagScanner(text).next())
      throw InputError(
          fmt::format("answer {} ('{}') is empty or holds a tag of the answer format; clean it", i + 1, answer.text));
    if (!(answer.confidence >= 0 && answer.confidence <= 1))
      throw InputError(fmt::format("confidence {} must be from 0 to 1, got {}", i + 1, answer.confidence));
    const std::string n = number(static_cast<int64_t>(i + 1));
    const std::string_view analysis = traits_.single && traits_.analysis ? "<analysis>None.</analysis>" : "";
    if (traits_.analysis_first) body += analysis;
    body += fmt::format("<answer{}>{}</answer{}>", n, text, n);
    if (!traits_.analysis_first) body += analysis;
    if (traits_.confidences) body += fmt::format("<confidence{}>{}</confidence{}>", n, answer.confidence, n);
  }
  if (!traits_.single && traits_.analysis) body += "<analysis>None.</analysis>";
  return (traits_.think ? "<think>I list what I know.</think>" : "") + body;
}

}  // namespace

std::vector<std::string> answer_format_names() {
  std::vector<std::string> names;
  for (const FormatTraits& traits : kFormats) names.emplace_back(traits.name);
  names.emplace_back(kVerbalisedName);
  return names;
}

std::unique_ptr<AnswerFormat> make_answer_format(std::string_view name) {
  std::string lower(name);
  std::transform(lower.begin(), lower.end(), lower.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + ('a' - 'A')) : c; });
  for (const FormatTraits& traits : kFormats)
    if (traits.name == lower) return std::make_unique<TaggedFormat>(traits);
  if (lower == kVerbalisedName) return make_verbalised_format();
  throw InputError(
      fmt::format("unknown answer format '{}'; the formats are {}", name, fmt::join(answer_format_names(), ", ")));
}

std::vector<Message> render_prompt(const std::vector<Message>& prompt, const AnswerFormat& format, int64_t k) {
  std::vector<Message> messages = prompt;
  const std::string instruction = format.instruction(k);
  for (auto message = messages.rbegin(); message != messages.rend(); ++message) {
    if (message->role != "user") continue;
    std::string& task = message->content;
    const std::string_view words = trim(task);
    const bool spaced = words.empty() || words.data() + words.size() != task.data() + task.size();
    if (!task.empty() && !spaced) task += ' ';
    task += instruction;
    return messages;
  }
  messages.push_back({"user", instruction});
  return messages;
}

}  // namespace plural
