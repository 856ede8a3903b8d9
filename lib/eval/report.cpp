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
#include "plural/evaluation.h"
#include "plural/version.h"

namespace plural::eval {
namespace {

using nlohmann::json;

/// A column of the table of evaluations: its key in metrics.json and how it reads.
struct Column {
  const char* key;
  const char* title;   ///< of the page
  const char* narrow;  ///< of the text table
  enum { kPercent, kNumber, kTokens } kind;
};
constexpr Column kColumns[] = {
    {"format_rate", "format rate", "format", Column::kPercent},
    {"coverage", "coverage (distinct correct / K)", "coverage", Column::kNumber},
    {"unique", "unique answers", "unique", Column::kNumber},
    {"brier", "Brier", "Brier", Column::kNumber},
    {"ece", "ECE", "ECE", Column::kNumber},
    {"accuracy", "accuracy", "accuracy", Column::kNumber},
    {"tokens_per_distinct_correct", "tokens per distinct correct answer", "tokens/correct", Column::kTokens},
};

std::string cell_text(const Column& column, double value) {
  if (!std::isfinite(value)) return "-";
  if (column.kind == Column::kPercent) return fmt::format("{:.1f} %", 100 * value);
  if (column.kind == Column::kTokens) return fmt::format("{:.1f}", value);
  return fmt::format("{:.3f}", value);
}

/// The evaluations on one data set.
using Group = std::vector<const EvalData*>;

std::vector<Group> by_data(const std::vector<EvalData>& evals) {
  std::vector<Group> groups;
  for (const EvalData& eval : evals) {
    const auto same = std::find_if(groups.begin(), groups.end(),
                                   [&](const Group& group) { return group.front()->data() == eval.data(); });
    if (same == groups.end())
      groups.push_back({&eval});
    else
      same->push_back(&eval);
  }
  return groups;
}

std::string text_table(const std::vector<EvalData>& evals) {
  if (evals.empty()) return "";
  const std::vector<Group> groups = by_data(evals);
  const auto label = [&](const EvalData& eval) {
    return groups.size() > 1 ? fmt::format("{} ({})", eval.title, eval.data_name()) : eval.title;
  };
  size_t width = 5;
  for (const EvalData& eval : evals) width = std::max(width, label(eval).size());
  std::string out = fmt::format("{:<{}}  {:>2}", "model", width, "K");
  for (const Column& column : kColumns)
    out += fmt::format("  {:>{}}", column.narrow, std::max<size_t>(8, std::string_view(column.narrow).size()));
  out += "\n";
  for (const Group& group : groups)
    for (const EvalData* eval : group) {
      out += fmt::format("{:<{}}  {:>2}", label(*eval), width, eval->info.value("num_answers", 0));
      for (const Column& column : kColumns) {
        out += fmt::format("  {:>{}}", cell_text(column, eval->metric(column.key)),
                           std::max<size_t>(8, std::string_view(column.narrow).size()));
      }
      out += "\n";
    }
  return out;
}

/// "0.42 to 0.51", or "" without an interval.
std::string interval_text(const EvalData& eval, const Column& column) {
  const auto [low, high] = eval.interval(column.key);
  if (!std::isfinite(low) || !std::isfinite(high)) return "";
  return fmt::format("<small>{} to {}</small>", cell_text(column, low), cell_text(column, high));
}

std::string html_table(const Group& evals) {
  std::string out = "<div class=\"scroll\"><table><thead><tr><th>model</th><th>K</th>";
  for (const Column& column : kColumns) out += fmt::format("<th>{}</th>", column.title);
  out += "</tr></thead><tbody>\n";
  for (const EvalData* eval : evals) {
    out += fmt::format("<tr><td>{}</td><td>{}</td>", html_escape(eval->title), eval->info.value("num_answers", 0));
    for (const Column& column : kColumns) {
      const int better = better_direction(column.key);
      double best = NAN;
      for (const EvalData* other : evals) {
        const double value = other->metric(column.key);
        if (std::isfinite(value) && !(better * value <= better * best)) best = value;
      }
      const double value = eval->metric(column.key);
      out += fmt::format("<td{}>{}{}</td>", evals.size() > 1 && value == best ? " class=\"best\"" : "",
                         cell_text(column, value), interval_text(*eval, column));
    }
    out += "</tr>\n";
  }
  return out + "</tbody></table></div>\n";
}

/// Every metric of every evaluation, with its interval.
std::string all_measures(const Group& evals) {
  std::set<std::string> names;
  for (const EvalData* eval : evals)
    if (const auto it = eval->info.find("metrics"); it != eval->info.end() && it->is_object())
      for (const auto& [name, value] : it->items())
        if (value.is_number()) names.insert(name);
  std::string out = "<details><summary>every measure</summary><div class=\"scroll\"><table><thead><tr><th>measure</th>";
  for (const EvalData* eval : evals) out += "<th>" + html_escape(eval->title) + "</th>";
  out += "</tr></thead><tbody>\n";
  for (const std::string& name : names) {
    out += "<tr><td>" + html_escape(name) + "</td>";
    const Column column{name.c_str(), "", "", name.starts_with("tokens") ? Column::kTokens : Column::kNumber};
    for (const EvalData* eval : evals)
      out += "<td>" + cell_text(column, eval->metric(name)) + interval_text(*eval, column) + "</td>";
    out += "</tr>\n";
  }
  return out + "</tbody></table></div></details>\n";
}

/// The stages of the model itself, without baselines.
Group plain_evals(const Group& evals) {
  Group out;
  std::copy_if(evals.begin(), evals.end(), std::back_inserter(out), [](const EvalData* eval) { return eval->plain(); });
  return out;
}

std::string tiles(const Group& evals) {
  const Group sets = plain_evals(evals);
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

constexpr int kColors = 6;

std::string reliability(const Group& evals) {
  std::string out, without;
  for (size_t i = 0; i < evals.size(); ++i) {
    const auto bins = evals[i]->bins();
    const double ece = evals[i]->metric("ece"), brier = evals[i]->metric("brier");
    if (bins.empty()) {
      without += (without.empty() ? "" : ", ") + html_escape(evals[i]->title);
      continue;
    }
    const std::string note = std::isfinite(ece) ? fmt::format("ECE {:.3f}, Brier {:.3f}", ece, brier) : "";
    out += reliability_diagram(evals[i]->title, bins, note, static_cast<int>(i) % kColors);
  }
  if (out.empty()) return "";
  return "<h2>Reliability</h2><p class=\"soft\">Stated confidence against the share of answers "
         "that are correct, with 95 % intervals. On the dashed "
         "line the model means what it says; below it, it is too sure. The bars show how often each confidence is "
         "stated.</p><div class=\"grid2\">" +
         out + "</div>" +
         (without.empty() ? "" : "<p class=\"note\">No confidences to show for: " + without + ".</p>") + "\n";
}

/// The empty line of evaluation `index`.
Series series_for(const EvalData& eval, size_t index) {
  Series line;
  line.name = eval.title;
  line.color = static_cast<int>(index) % kColors;
  line.dashed = !eval.plain();
  line.markers = true;
  return line;
}

/// A line of each evaluation that has at least `fewest` points.
template <class PointsOf>
std::vector<Series> series_of(const Group& evals, const PointsOf& points_of, size_t fewest = 1) {
  std::vector<Series> lines;
  for (size_t i = 0; i < evals.size(); ++i) {
    Series line = series_for(*evals[i], i);
    line.points = points_of(*evals[i]);
    if (line.points.size() >= fewest) lines.push_back(std::move(line));
  }
  return lines;
}

/// What sampling on brings: against the number of answers and against what they cost.
std::string coverage_curves(const Group& evals) {
  const auto curve = [](const char* x, const char* y) {
    return [=](const EvalData& eval) { return eval.curve(x, y); };
  };
  if (series_of(evals, curve("answers", "distinct_correct"), 2).empty()) return "";
  ChartOptions options;
  options.y_min = 0;
  std::string out =
      "<h2>Coverage by answers and by tokens</h2><p class=\"soft\">Different correct answers found by the "
      "first answers of a set, then by several sets of one prompt (the mean over all choices of "
      "them).</p><div class=\"grid2\">";
  options.title = "Distinct correct answers against answers drawn";
  options.x_label = "answers drawn";
  out += line_chart(series_of(evals, curve("answers", "distinct_correct")), options);
  options.title = "Distinct correct answers against tokens spent";
  options.x_label = "completion tokens a prompt";
  options.integer_x = false;
  out += line_chart(series_of(evals, curve("tokens", "distinct_correct")), options);
  options.title = "Unique answers against answers drawn";
  options.x_label = "answers drawn";
  options.integer_x = true;
  out += line_chart(series_of(evals, curve("answers", "unique")), options);
  options.title = "Recall: share of the gold answers found";
  return out + line_chart(series_of(evals, curve("answers", "recall")), options) + "</div>\n";
}

std::string coverage_by_k(const Group& evals) {
  const auto asked = [](const char* key) { return [=](const EvalData& eval) { return eval.by_num_answers(key); }; };
  if (series_of(evals, asked("coverage"), 2).empty()) return "";
  ChartOptions options;
  options.x_label = "K, answers asked for";
  options.y_min = 0;
  options.title = "Coverage: distinct correct answers / K";
  std::string out = "<h2>Coverage by K</h2><div class=\"grid2\">" +
                    line_chart(series_of(evals, asked("coverage")), options);
  options.title = "Distinct correct answers in one set";
  return out + line_chart(series_of(evals, asked("distinct_correct")), options) + "</div>\n";
}

/// A line of each evaluation through its metrics "name1", "name2" ..., with their intervals.
std::vector<Series> series_by_rank(const Group& evals, const std::string& name) {
  std::vector<Series> lines;
  for (size_t i = 0; i < evals.size(); ++i) {
    lines.push_back(series_for(*evals[i], i));
    for (int rank = 1; rank <= evals[i]->info.value("num_answers", 0); ++rank) {
      const std::string key = fmt::format("{}{}", name, rank);
      lines.back().points.emplace_back(rank, evals[i]->metric(key));
      lines.back().intervals.push_back(evals[i]->interval(key));
    }
  }
  return lines;
}

std::string ranks(const Group& evals) {
  ChartOptions options;
  options.x_label = "rank by confidence";
  options.y_min = 0;
  options.title = "Accuracy of the answer of each rank";
  std::string out = line_chart(series_by_rank(evals, "accuracy@rank"), options);
  options.x_label = "k, the most confident answers";
  options.title = "A correct one within the k most confident answers";
  out += line_chart(series_by_rank(evals, "pass@"), options);
  return out.empty() ? "" : "<h2>By rank</h2><div class=\"grid2\">" + out + "</div>\n";
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
    static const std::set<std::string> shown = {"format_rate", "coverage", "recall", "unique",
                                                "accuracy",    "brier",    "ece",    "tokens_per_distinct_correct"};
    if (name.starts_with("eval/") && shown.contains(name.substr(name.rfind('/') + 1)) && points.size() > 1) {
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
    out += (i > 0 ? "\n" : "") + highlighted(text, marks);
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

/// The same prompts under every evaluation, side by side: the best, the worst and some others of the last stage.
std::string eval_samples(const Group& evals) {
  const Group plain = plain_evals(evals);
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

std::string heading(const ReportData& data) {
  std::string out = fmt::format("<h1>{}</h1><p class=\"soft\">", html_escape(folder_name(data.dir)));
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
    const json& info = data.evals.front().info;
    std::set<std::string> files;
    for (const EvalData& eval : data.evals) files.insert(eval.data());
    out += html_escape(fmt::format("data {} · format {} · matcher {}", fmt::join(files, ", "),
                                   info.value("format", "?"), info.value("matcher", "?")));
  }
  return out + "</p>\n";
}

/// Everything about the evaluations on one data set.
std::string evaluation_sections(const Group& evals, bool several) {
  const json& info = evals.back()->info;
  std::string body = several ? "<h2 class=\"data\">Data: " + html_escape(evals.front()->data_name()) + "</h2>" : "";
  body += tiles(evals) + "<h2>Evaluations</h2>" + html_table(evals);
  body += fmt::format(
      "<p class=\"note\">{} prompts, {} sets each; bold = best of the column; small = 95 % interval by bootstrap over "
      "prompts. Brier and ECE are over single answers with a stated confidence.</p>\n",
      info.value("prompts", 0), info.value("samples_per_prompt", 1));
  return body + all_measures(evals) + reliability(evals) + ranks(evals) + coverage_curves(evals) + coverage_by_k(evals);
}

std::string page_text(const ReportData& data) {
  const std::vector<Group> groups = by_data(data.evals);
  std::string body = heading(data);
  for (const Group& group : groups) body += evaluation_sections(group, groups.size() > 1);
  body += curves(data.curves);
  if (!data.last_samples.empty()) body += training_samples(data);
  for (const Group& group : groups) body += eval_samples(group);
  if (!data.config.empty()) {
    body += "<h2>Settings</h2><details><summary>config.yaml</summary><pre class=\"completion\">" +
            html_escape(data.config) + "</pre></details>";
  }
  return "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" "
         "content=\"width=device-width, "
         "initial-scale=1\"><title>plural: " +
         html_escape(folder_name(data.dir)) + "</title><style>" + kReportStyle + "</style></head><body><main>\n" +
         body + "<p class=\"note\">Made by plural " PLURAL_VERSION ".</p></main></body></html>\n";
}

}  // namespace

Report write_report(const std::filesystem::path& dir, const std::filesystem::path& page) {
  Report report;
  report.page = page.empty() ? dir / "report.html" : page;
  std::string text;
  try {
    const ReportData data = load_report_data(dir);
    report.table = text_table(data.evals);
    text = page_text(data);
  } catch (const json::exception& error) {
    throw InputError(
        fmt::format("{}: a file there is JSON, but not as plural writes it ({}); run `plural eval` or `plural train` "
                    "again",
                    dir.string(), error.what()));
  }
  write_file_atomic(report.page, text);
  return report;
}

}  // namespace plural::eval
