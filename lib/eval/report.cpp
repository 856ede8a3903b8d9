// SPDX-License-Identifier: Apache-2.0
#include "lib/eval/report.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "lib/core/format.h"
#include "lib/eval/report_data.h"
#include "lib/eval/report_style.h"
#include "lib/eval/svg_chart.h"
#include "plural/checkpoint.h"
#include "plural/error.h"
#include "plural/version.h"

namespace plural::eval {
namespace {

using nlohmann::json;

/// A column of the table of evaluations: its key in metrics.json and how it reads.
struct Column {
  const char* key;
  const char* title;   ///< of the page
  const char* narrow;  ///< of the text table
  int better;          ///< +1 more is better, -1 less is better
  enum { kPercent, kNumber, kTokens } kind;
};
constexpr Column kColumns[] = {
    {"format_rate", "format rate", "format", +1, Column::kPercent},
    {"coverage", "coverage (distinct correct / K)", "coverage", +1, Column::kNumber},
    {"unique", "unique answers", "unique", +1, Column::kNumber},
    {"brier", "Brier", "Brier", -1, Column::kNumber},
    {"ece", "ECE", "ECE", -1, Column::kNumber},
    {"accuracy", "accuracy", "accuracy", +1, Column::kNumber},
    {"tokens_per_distinct_correct", "tokens per distinct correct answer", "tokens/correct", -1, Column::kTokens},
};

std::string cell_text(const Column& column, double value) {
  if (!std::isfinite(value)) return "-";
  if (column.kind == Column::kPercent) return fmt::format("{:.1f} %", 100 * value);
  if (column.kind == Column::kTokens) return fmt::format("{:.1f}", value);
  return fmt::format("{:.3f}", value);
}

std::string text_table(const std::vector<EvalData>& evals) {
  if (evals.empty()) return "";
  size_t width = 5;
  for (const EvalData& eval : evals) width = std::max(width, eval.title.size());
  std::string out = fmt::format("{:<{}}  {:>2}", "model", width, "K");
  for (const Column& column : kColumns)
    out += fmt::format("  {:>{}}", column.narrow, std::max<size_t>(8, std::string_view(column.narrow).size()));
  out += "\n";
  for (const EvalData& eval : evals) {
    out += fmt::format("{:<{}}  {:>2}", eval.title, width, eval.info.value("num_answers", 0));
    for (const Column& column : kColumns) {
      out += fmt::format("  {:>{}}", cell_text(column, eval.metric(column.key)),
                         std::max<size_t>(8, std::string_view(column.narrow).size()));
    }
    out += "\n";
  }
  return out;
}

std::string html_table(const std::vector<EvalData>& evals) {
  std::string out = "<div class=\"scroll\"><table><thead><tr><th>model</th><th>K</th>";
  for (const Column& column : kColumns) out += fmt::format("<th>{}</th>", column.title);
  out += "</tr></thead><tbody>\n";
  for (const EvalData& eval : evals) {
    out += fmt::format("<tr><td>{}</td><td>{}</td>", html_escape(eval.title), eval.info.value("num_answers", 0));
    for (const Column& column : kColumns) {
      double best = NAN;
      for (const EvalData& other : evals) {
        const double value = other.metric(column.key);
        if (std::isfinite(value) && !(column.better * value <= column.better * best)) best = value;
      }
      const double value = eval.metric(column.key);
      out += fmt::format("<td{}>{}</td>", evals.size() > 1 && value == best ? " class=\"best\"" : "",
                         cell_text(column, value));
    }
    out += "</tr>\n";
  }
  return out + "</tbody></table></div>\n";
}

/// The answer sets of a model; independent sampling is a baseline beside them.
std::vector<const EvalData*> set_evals(const std::vector<EvalData>& evals) {
  std::vector<const EvalData*> out;
  for (const EvalData& eval : evals) {
    if (!eval.independent()) out.push_back(&eval);
  }
  return out;
}

std::string tiles(const std::vector<EvalData>& evals) {
  const auto sets = set_evals(evals);
  if (sets.size() < 2) return "";
  // What RL changed: the last two stages that could state answers at all.
  const EvalData& first = *sets[sets.size() - 2];
  const EvalData& last = *sets.back();
  std::string out = "<div class=\"tiles\">";
  for (const Column& column : kColumns) {
    if (std::string_view(column.key) == "accuracy" || std::string_view(column.key) == "unique") continue;
    out += fmt::format("<div class=\"tile\"><b>{} → {}</b><span>{}</span></div>",
                       cell_text(column, first.metric(column.key)), cell_text(column, last.metric(column.key)),
                       column.title);
  }
  return out + fmt::format("</div><p class=\"note\">From “{}” to “{}”.</p>\n", html_escape(first.title),
                           html_escape(last.title));
}

std::string reliability(const std::vector<EvalData>& evals) {
  std::string out, without;
  int color = 0;
  for (const EvalData* eval : set_evals(evals)) {
    const auto bins = eval->bins();
    const double ece = eval->metric("ece");
    if (bins.empty()) {
      without += (without.empty() ? "" : ", ") + html_escape(eval->title);
    } else {
      out += reliability_diagram(eval->title, bins, std::isfinite(ece) ? fmt::format("ECE {:.3f}", ece) : "", color);
    }
    ++color;
  }
  if (out.empty()) return "";
  return "<h2>Reliability</h2><p class=\"soft\">Stated confidence against the share of answers "
         "that are correct. On the dashed "
         "line the model means what it says; below it, it is too sure.</p><div class=\"grid2\">" +
         out + "</div>" +
         (without.empty() ? "" : "<p class=\"note\">No confidences to show for: " + without + ".</p>") + "\n";
}

std::string coverage_by_k(const std::vector<EvalData>& evals) {
  std::vector<Series> coverage, distinct;
  int color = 0;
  bool several = false;
  for (const EvalData& eval : evals) {
    const Points points = eval.by_num_answers("coverage");
    const Points counts = eval.by_num_answers("distinct_correct");
    const int c = eval.independent() ? 5 : color++;
    if (points.empty()) continue;
    several = several || points.size() > 1;
    coverage.push_back({eval.title, c, points, false, eval.independent(), true});
    distinct.push_back({eval.title, c, counts, false, eval.independent(), true});
  }
  if (!several) return "";
  ChartOptions options;
  options.x_label = "K, answers asked for";
  options.y_min = 0;
  options.title = "Coverage: distinct correct answers / K";
  std::string out = "<h2>Coverage by K</h2><div class=\"grid2\">" + line_chart(coverage, options);
  options.title = "Distinct correct answers in one set";
  return out + line_chart(distinct, options) + "</div>\n";
}

/// A curve of metrics.jsonl: the first of `names` that the run has.
struct CurveSpec {
  const char* title;
  std::vector<std::string> names;
  std::optional<double> y_min;
};
const std::vector<CurveSpec>& curve_specs() {
  static const std::vector<CurveSpec> specs = {
      {"Reward (mean)", {"reward/total/mean"}, {}},
      {"Coverage", {"answers/coverage"}, {}},
      {"Brier score of stated confidences (less is better)", {"answers/brier"}, {}},
      {"Format rate", {"answers/format_rate"}, {}},
      {"Loss", {"loss"}, {}},
      {"Entropy (nats per token)", {"policy/entropy", "rollout/surprisal"}, {}},
      {"Gradient norm", {"optim/grad_norm"}, 0.0},
      {"Learning rate", {"optim/learning_rate"}, 0.0},
      {"Completion length (tokens)", {"rollout/length_mean"}, {}},
      {"Tokens per second", {"rate/tokens_per_s"}, 0.0},
  };
  return specs;
}

std::string curve(const std::string& title, const Points& points, std::optional<double> y_min) {
  ChartOptions options;
  options.title = title;
  options.x_label = "step";
  options.y_min = y_min;
  const size_t window = std::max<size_t>(1, points.size() / 12) | 1;
  if (window < 3) return line_chart({{"", 0, points, false, false, points.size() < 3}}, options);
  return line_chart(
      {{"each step", 0, points, true}, {fmt::format("mean of {} steps", window), 0, running_mean(points, window)}},
      options);
}

std::string curves(const std::map<std::string, Points>& all) {
  std::string out;
  for (const CurveSpec& spec : curve_specs()) {
    for (const std::string& name : spec.names) {
      const auto it = all.find(name);
      if (it == all.end()) continue;
      out += curve(spec.title, it->second, spec.y_min);
      break;
    }
  }
  std::string held_out;
  for (const auto& [name, points] : all) {
    if (name.starts_with("eval/") && points.size() > 1) {
      ChartOptions options;
      options.title = name;
      options.x_label = "step";
      held_out += line_chart({{"", 2, points, false, false, true}}, options);
    }
  }
  if (!held_out.empty()) held_out = "<h3>Evaluations during training</h3><div class=\"grid2\">" + held_out + "</div>";
  if (out.empty() && held_out.empty()) return "";
  return "<h2>Training curves</h2><div class=\"grid2\">" + out + "</div>" + held_out + "\n";
}

/// The completion with its answer blocks marked: correct, a repetition, or wrong.
std::string highlighted(const json& row) {
  const std::string text = row.value("completion", "");
  struct Mark {
    size_t begin, end;
    const char* css;
    const char* title;
  };
  std::vector<Mark> marks;
  for (const json& answer : row.value("answers", json::array())) {
    const int64_t begin = answer.value("begin", 0), end = answer.value("end", 0);
    if (begin < 0 || begin >= end || end > static_cast<int64_t>(text.size())) continue;
    const bool correct = answer.value("correct", false), again = answer.value("duplicate", false);
    marks.push_back({static_cast<size_t>(begin), static_cast<size_t>(end),
                     again     ? "again"
                     : correct ? "hit"
                               : "miss",
                     again     ? "said before"
                     : correct ? "correct"
                               : "not among the gold answers"});
  }
  std::sort(marks.begin(), marks.end(), [](const Mark& a, const Mark& b) { return a.begin < b.begin; });
  constexpr size_t kLongest = 900;
  std::string out;
  size_t at = 0;
  for (const Mark& mark : marks) {
    if (mark.begin < at) continue;
    out += html_escape(std::string_view(text).substr(at, mark.begin - at));
    out += fmt::format("<mark class=\"{}\" title=\"{}\">{}</mark>", mark.css, mark.title,
                       html_escape(std::string_view(text).substr(mark.begin, mark.end - mark.begin)));
    at = mark.end;
  }
  std::string_view rest = std::string_view(text).substr(at);
  if (rest.size() > kLongest) {
    size_t cut = kLongest;
    while (cut > 0 && (rest[cut] & 0xC0) == 0x80) --cut;  // not inside a character
    return out + html_escape(rest.substr(0, cut)) + " …";
  }
  return out + html_escape(rest);
}

std::string gold_line(const json& row) {
  std::string out;
  int shown = 0;
  const json gold = row.value("gold", json::array());
  for (const json& answer : gold) {
    if (!answer.is_string()) continue;
    if (++shown > 16) break;
    out += (out.empty() ? "" : ", ") + html_escape(answer.get<std::string>());
  }
  if (gold.size() > 16) out += fmt::format(" and {} more", gold.size() - 16);
  return out.empty() ? "" : "<details><summary>accepted answers</summary><p class=\"note\">" + out + "</p></details>";
}

std::string completion_block(const std::string& who, const json& row) {
  return fmt::format("<p class=\"who\">{}</p><pre class=\"completion\">{}</pre>", html_escape(who), highlighted(row));
}

constexpr char kMarkHelp
    [] = "<p class=\"soft\"><mark class=\"hit\">correct</mark> <mark class=\"again\">said before</mark> "
         "<mark class=\"miss\">not among the accepted answers</mark></p>";

/// The same prompts under every model, side by side.
std::string eval_samples(const std::vector<EvalData>& evals) {
  const auto sets = set_evals(evals);
  if (sets.empty()) return "";
  const auto main_rows = [](const EvalData& eval) {
    std::map<std::string, const json*> rows;
    for (const json& row : eval.samples) {
      if (row.value("sample", 0) == 0 && row.value("num_answers", 0) == eval.info.value("num_answers", 0)) {
        rows.emplace(row.value("id", ""), &row);
      }
    }
    return rows;
  };
  std::vector<std::map<std::string, const json*>> rows;
  for (const EvalData* eval : sets) rows.push_back(main_rows(*eval));
  std::vector<const json*> chosen;
  for (const json& row : sets.back()->samples) {
    const auto it = rows.back().find(row.value("id", ""));
    if (it != rows.back().end() && it->second == &row) chosen.push_back(&row);
  }
  // Spread over the data set: neighbours tend to be alike.
  constexpr size_t kShown = 8;
  std::string out;
  for (size_t i = 0; i < std::min(kShown, chosen.size()); ++i) {
    const json& row = *chosen[i * chosen.size() / std::min(kShown, chosen.size())];
    out += "<div class=\"sample\"><h3>" + html_escape(row.value("prompt", "")) + "</h3>";
    for (size_t e = 0; e < sets.size(); ++e) {
      const auto it = rows[e].find(row.value("id", ""));
      if (it != rows[e].end()) out += completion_block(sets[e]->title, *it->second);
    }
    out += gold_line(row) + "</div>\n";
  }
  return out.empty() ? "" : "<h2>Sample completions</h2>" + std::string(kMarkHelp) + out;
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

std::string heading(const ReportData& data) {
  std::string out = fmt::format(
      "<h1>{}</h1><p class=\"soft\">",
      html_escape(std::filesystem::absolute(data.dir).lexically_normal().filename().string()));
  if (data.manifest.is_object()) {
    std::string facts;
    for (const char* key : {"task", "model", "seed", "device", "dtype", "plural_version", "git_commit"}) {
      const auto it = data.manifest.find(key);
      if (it == data.manifest.end() || it->is_null()) continue;
      facts += fmt::format("{}{} {}", facts.empty() ? "" : " · ", key,
                           it->is_string() ? it->get<std::string>() : it->dump());
    }
    out += html_escape(facts);
  } else if (!data.evals.empty()) {
    const json& info = data.evals.back().info;
    out += html_escape(fmt::format("data {} · {} prompts · format {} · matcher {}", info.value("data", "?"),
                                   info.value("prompts", 0), info.value("format", "?"), info.value("matcher", "?")));
  }
  return out + "</p>\n";
}

std::string page_text(const ReportData& data) {
  std::string body = heading(data) + tiles(data.evals);
  if (!data.evals.empty()) {
    body += "<h2>Evaluations</h2>" + html_table(data.evals);
    const json& info = data.evals.back().info;
    body += fmt::format(
        "<p class=\"note\">{} held-out prompts, {} sets each; bold = best of the column. Brier and "
        "ECE are over single "
        "answers with a stated confidence.</p>\n",
        info.value("prompts", 0), info.value("samples_per_prompt", 1));
  }
  body += reliability(data.evals) + coverage_by_k(data.evals) + curves(data.curves);
  body += data.last_samples.empty() ? eval_samples(data.evals) : training_samples(data);
  if (!data.config.empty()) {
    body += "<h2>Settings</h2><details><summary>config.yaml</summary><pre class=\"completion\">" +
            html_escape(data.config) + "</pre></details>";
  }
  return "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" "
         "content=\"width=device-width, "
         "initial-scale=1\"><title>plural: " +
         html_escape(data.dir.filename().string()) + "</title><style>" + kReportStyle +
         "</style></head><body><main>\n" + body +
         "<p class=\"note\">Made by plural " PLURAL_VERSION ".</p></main></body></html>\n";
}

}  // namespace

Report write_report(const std::filesystem::path& dir, const std::filesystem::path& page) {
  const ReportData data = load_report_data(dir);
  Report report;
  report.page = page.empty() ? dir / "report.html" : page;
  report.table = text_table(data.evals);
  write_file_atomic(report.page, page_text(data));
  return report;
}

}  // namespace plural::eval
