// SPDX-License-Identifier: Apache-2.0
#include "lib/eval/report_samples.h"

#include <algorithm>
#include <map>
#include <set>
#include <string_view>
#include <vector>

#include "lib/core/format.h"
#include "lib/eval/svg_chart.h"

namespace plural::eval {
namespace {

using nlohmann::json;

/// A stretch of a completion to be marked.
struct Mark {
  size_t begin, end;
  const char* css;
  std::string title;
};

void add_mark(const json& answer, const char* begin_key, const char* end_key, size_t size, const char* css,
              const std::string& title, std::vector<Mark>* marks) {
  const int64_t begin = answer.value(begin_key, 0), end = answer.value(end_key, 0);
  if (begin >= 0 && begin < end && end <= static_cast<int64_t>(size))
    marks->push_back({static_cast<size_t>(begin), static_cast<size_t>(end), css, title});
}

/// The answer block, and its confidence block.
void mark_answer(const json& answer, size_t size, std::vector<Mark>* marks) {
  const bool correct = answer.value("correct", false), again = answer.value("duplicate", false);
  add_mark(answer, "begin", "end", size,
           again     ? "again"
           : correct ? "hit"
                     : "miss",
           again     ? "said before"
           : correct ? "correct"
                     : "not among the accepted answers",
           marks);
  const json confidence = answer.value("confidence", json());
  add_mark(answer, "confidence_begin", "confidence_end", size, "stated",
           confidence.is_number() ? fmt::format("confidence {:.3g}", confidence.get<double>()) : "no number", marks);
}

/// A text with its marks; long stretches without any are cut.
std::string highlighted(const std::string& text, std::vector<Mark> marks) {
  std::sort(marks.begin(), marks.end(), [](const Mark& a, const Mark& b) { return a.begin < b.begin; });
  constexpr size_t kLongest = 900;
  std::string out;
  size_t at = 0;
  const auto plain = [&](size_t end) {
    std::string_view part = std::string_view(text).substr(at, end - at);
    if (part.size() <= kLongest) return html_escape(part);
    size_t cut = kLongest;
    while (cut > 0 && (part[cut] & 0xC0) == 0x80) --cut;  // not inside a character
    return html_escape(part.substr(0, cut)) + " … ";
  };
  for (const Mark& mark : marks) {
    if (mark.begin < at) continue;
    out += plain(mark.begin);
    out += fmt::format("<mark class=\"{}\" title=\"{}\">{}</mark>", mark.css, mark.title,
                       html_escape(std::string_view(text).substr(mark.begin, mark.end - mark.begin)));
    at = mark.end;
  }
  return out + plain(text.size());
}

/// The completion (or the completions of one answer each) with answers and confidences marked.
std::string highlighted(const json& row) {
  const json answers = row.value("answers", json::array());
  std::vector<Mark> marks;
  if (row.contains("completion")) {
    const std::string text = row.value("completion", "");
    for (const json& answer : answers) mark_answer(answer, text.size(), &marks);
    return highlighted(text, marks);
  }
  std::string out;
  const json completions = row.value("completions", json::array());
  for (size_t i = 0; i < completions.size(); ++i) {
    const std::string text = completions[i].is_string() ? completions[i].get<std::string>() : "";
    marks.clear();
    if (i < answers.size()) mark_answer(answers[i], text.size(), &marks);
    if (i > 0) out += "\n";
    out += highlighted(text, marks);
  }
  return out;
}

std::string gold_line(const json& row) {
  std::string out;
  int shown = 0;
  const json gold = row.value("gold", json::array());
  for (const json& answer : gold) {
    const json text = answer.is_object() ? answer.value("answer", json()) : answer;
    if (!text.is_string()) continue;
    if (++shown > 16) break;
    out += (out.empty() ? "" : ", ") + html_escape(text.get<std::string>());
  }
  if (gold.size() > 16) out += fmt::format(" and {} more", gold.size() - 16);
  return out.empty() ? "" : "<details><summary>accepted answers</summary><p class=\"note\">" + out + "</p></details>";
}

std::string completion_block(const std::string& who, const json& row) {
  return fmt::format("<p class=\"who\">{}</p><pre class=\"completion\">{}</pre>", html_escape(who), highlighted(row));
}

constexpr char kMarkHelp
    [] = "<p class=\"soft\"><mark class=\"hit\">correct</mark> <mark class=\"again\">said before</mark> "
         "<mark class=\"miss\">not among the accepted answers</mark> <mark class=\"stated\">confidence</mark></p>";

/// Distinct correct answers / K, less the mean of (confidence - correct)^2 over the answers; what is no confidence in
/// [0, 1] counts as 0.
double sample_quality(const json& row) {
  double hits = 0, brier = 0, written = 0;
  const json answers = row.value("answers", json::array());
  for (const json& answer : answers) {
    if (answer.value("begin", 0) >= answer.value("end", 0)) continue;  // a number that was left out
    const bool correct = answer.value("correct", false);
    hits += correct && !answer.value("duplicate", false);
    const json stated = answer.value("confidence", json());
    const double q = stated.is_number() ? stated.get<double>() : 0;
    const double gap = (q >= 0 && q <= 1 ? q : 0) - correct;
    brier += gap * gap;
    ++written;
  }
  return hits / std::max(1.0, row.value("num_answers", 1.0)) - (written > 0 ? brier / written : 0);
}

std::map<std::string, const json*> rows_by_id(const EvalData& eval) {
  std::map<std::string, const json*> rows;
  for (const json& row : eval.samples) rows.emplace(row.value("id", ""), &row);
  return rows;
}

}  // namespace

std::string eval_samples(const EvalGroup& evals) {
  const EvalGroup plain = plain_evals(evals);
  const EvalData& judged = plain.empty() ? *evals.back() : *plain.back();
  std::vector<std::map<std::string, const json*>> rows;
  for (const EvalData* eval : evals) rows.push_back(rows_by_id(*eval));
  std::vector<const json*> ranked;
  for (const auto& [id, row] : rows_by_id(judged)) ranked.push_back(row);
  std::stable_sort(ranked.begin(), ranked.end(),
                   [](const json* a, const json* b) { return sample_quality(*a) > sample_quality(*b); });
  constexpr size_t kEach = 3;
  const auto block = [&](const json& row) {
    std::string out = "<div class=\"sample\"><h3>" + html_escape(row.value("prompt", "")) + "</h3>";
    for (size_t e = 0; e < evals.size(); ++e) {
      const auto it = rows[e].find(row.value("id", ""));
      if (it != rows[e].end()) out += completion_block(evals[e]->title, *it->second);
    }
    return out + gold_line(row) + "</div>\n";
  };
  const size_t best = std::min(kEach, ranked.size()), worst = std::min(kEach, ranked.size() - best);
  std::string out;
  if (best > 0) out += "<h3>Best</h3>";
  for (size_t i = 0; i < best; ++i) out += block(*ranked[i]);
  if (worst > 0) out += "<h3>Worst</h3>";
  for (size_t i = 0; i < worst; ++i) out += block(*ranked[ranked.size() - 1 - i]);
  const size_t between = ranked.size() - best - worst, shown = std::min(kEach, between);
  if (shown > 0) out += "<h3>Between</h3>";
  for (size_t i = 0; i < shown; ++i) out += block(*ranked[best + (2 * i + 1) * between / (2 * shown)]);
  return out.empty()
             ? ""
             : "<h2>Sample completions</h2><p class=\"soft\">Best and worst by distinct correct answers / K less "
               "the set's Brier score, of “" +
                   html_escape(judged.title) + "”.</p>" + std::string(kMarkHelp) + out;
}

std::string training_samples(const ReportData& data) {
  std::string out;
  std::set<std::string> seen;
  for (const json& row : data.last_samples) {
    if (seen.size() >= 6) break;
    if (!seen.insert(row.value("id", "")).second) continue;
    out += "<div class=\"sample\"><h3>" + html_escape(row.value("prompt", "")) + "</h3>";
    const json total = row.value("total", json());
    out += completion_block(total.is_number() ? fmt::format("reward {:.3f}", total.get<double>()) : "", row) +
           gold_line(row) + "</div>\n";
  }
  if (out.empty()) return "";
  return fmt::format("<h2>Sample completions of step {}</h2>", data.last_sample_step) + kMarkHelp + out;
}

}  // namespace plural::eval
