// SPDX-License-Identifier: Apache-2.0
#include "lib/text/verbalised_format.h"

#include <optional>
#include <string>

#include "lib/core/format.h"
#include "lib/text/normal_form.h"
#include "plural/error.h"

namespace plural {
namespace {

/// A block `<name>...</name>` of a text.
struct Found {
  Span block;             ///< tags included
  std::string_view text;  ///< between them
};

std::optional<Found> find_block(std::string_view text, std::string_view name, size_t from) {
  const std::string open = fmt::format("<{}>", name), close = fmt::format("</{}>", name);
  const size_t begin = text.find(open, from);
  if (begin == std::string_view::npos) return std::nullopt;
  const size_t inner = begin + open.size();
  const size_t end = text.find(close, inner);
  if (end == std::string_view::npos) return std::nullopt;
  return Found{{static_cast<int64_t>(begin), static_cast<int64_t>(end + close.size())},
               text.substr(inner, end - inner)};
}

Span shifted(Span span, int64_t by) { return {span.begin + by, span.end + by}; }

bool holds_tag(std::string_view text) {
  for (const char* name : {"response", "text", "probability", "think"})
    for (const char* slash : {"", "/"})
      if (text.find(fmt::format("<{}{}>", slash, name)) != std::string_view::npos) return true;
  return false;
}

class VerbalisedFormat final : public AnswerFormat {
 public:
  std::string name() const override { return kVerbalisedName; }
  bool has_confidences() const override { return true; }

  std::string instruction(int64_t k) const override {
    PLURAL_CHECK(k >= 1, fmt::format("a set needs at least 1 answer, got k = {}", k));
    return fmt::format(
        "Generate {} different response{}, each within a separate <response> tag. Each <response> must include a "
        "<text> "
        "with the answer alone and a numeric <probability> from 0 to 1.",
        k, k == 1 ? "" : "s");
  }

  AnswerSet parse(std::string_view completion, int64_t k) const override {
    PLURAL_CHECK(k >= 1 && k <= kMaxAnswers, fmt::format("a set has 1 to {} answers, got k = {}", kMaxAnswers, k));
    AnswerSet set;
    const size_t think = completion.rfind("</think>");
    size_t from = think == std::string_view::npos ? 0 : think;
    bool too_many = false;
    while (const auto response = find_block(completion, "response", from)) {
      from = static_cast<size_t>(response->block.end);
      too_many = static_cast<int64_t>(set.answers.size()) == k;
      if (too_many) break;
      set.answers.push_back(read_response(response->text, response->text.data() - completion.data()));
    }
    set.problem = find_problem(set, k, too_many);
    set.format_ok = set.problem.empty();
    set.extracted = set.paired = static_cast<int64_t>(set.answers.size()) == k && !too_many;
    for (const Answer& answer : set.answers)
      set.extracted = set.paired = set.paired && !answer.answer_bytes.empty() && answer.has_confidence;
    size_t answers = set.answers.size();
    while (answers > 0 && set.answers[answers - 1].answer_bytes.empty()) --answers;
    for (size_t i = answers; i < set.answers.size(); ++i) set.lone_confidences.push_back(set.answers[i].confidence);
    set.answers.resize(answers);
    return set;
  }

  std::string render(std::span<const StatedAnswer> answers) const override {
    if (answers.empty()) throw InputError("format verbalised holds at least 1 answer, got 0 answers");
    std::string text;
    for (const StatedAnswer& answer : answers) {
      const std::string_view trimmed = trim(answer.text);
      if (trimmed.empty() || holds_tag(trimmed))
        throw InputError(
            fmt::format("answer '{}' is empty or holds a tag of the answer format; clean it", answer.text));
      if (!(answer.confidence >= 0 && answer.confidence <= 1))
        throw InputError(fmt::format("a probability must be from 0 to 1, got {}", answer.confidence));
      text += fmt::format("<response><text>{}</text><probability>{}</probability></response>", trimmed,
                          answer.confidence);
    }
    return text;
  }

 private:
  /// The answer of one response, whose text begins at byte `at` of the completion.
  static Answer read_response(std::string_view response, int64_t at) {
    Answer answer;
    if (const auto text = find_block(response, "text", 0)) {
      answer.text = trim(text->text);
      answer.normal = normal_form(answer.text);
      answer.answer_bytes = shifted(text->block, at);
    }
    if (const auto probability = find_block(response, "probability", 0)) {
      answer.has_confidence = true;
      answer.confidence_bytes = shifted(probability->block, at);
      if (const auto value = parse_number(probability->text)) answer.confidence = *value;
    }
    return answer;
  }

  static std::string find_problem(const AnswerSet& set, int64_t k, bool too_many) {
    for (size_t i = 0; i < set.answers.size(); ++i) {
      const Answer& answer = set.answers[i];
      if (answer.answer_bytes.empty()) return fmt::format("response {} has no <text> block", i + 1);
      if (answer.text.empty()) return fmt::format("answer {} is empty", i + 1);
      if (!answer.has_confidence) return fmt::format("response {} has no <probability> block", i + 1);
      if (!(answer.confidence >= 0 && answer.confidence <= 1))
        return fmt::format("probability {} is no number from 0 to 1", i + 1);
    }
    if (static_cast<int64_t>(set.answers.size()) < k)
      return fmt::format("{} responses, {} were asked for", set.answers.size(), k);
    return too_many ? fmt::format("more than the {} responses asked for", k) : "";
  }
};

}  // namespace

std::unique_ptr<AnswerFormat> make_verbalised_format() { return std::make_unique<VerbalisedFormat>(); }

}  // namespace plural
