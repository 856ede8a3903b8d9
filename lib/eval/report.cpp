// SPDX-License-Identifier: Apache-2.0
#include "lib/eval/report.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "lib/core/format.h"
#include "lib/eval/report_data.h"
#include "lib/eval/report_samples.h"
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
    {"unanswered", "without an answer", "no answer", Column::kPercent},
    {"coverage", "coverage (distinct correct / K)", "coverage", Column::kNumber},
    {"unique", "unique answers", "unique", Column::kNumber},
    {"brier", "Brier", "Brier", Column::kNumber},
    {"ece", "ECE", "ECE", Column::kNumber},
    {"accuracy", "accuracy", "accuracy", Column::kNumber},
    {"tokens_per_distinct_correct", "tokens per distinct correct answer", "tokens/correct", Column::kTokens},
};

/// Numbers of tokens or characters: one decimal is enough.
bool counts_length(std::string_view metric) {
  return metric.starts_with("tokens") || metric == "completion_characters";
}

std::string cell_text(const Column& column, double value) {
  if (!std::isfinite(value)) return "-";
  if (column.kind == Column::kPercent) return fmt::format("{:.1f} %", 100 * value);
  if (column.kind == Column::kTokens) return fmt::format("{:.1f}", value);
  return fmt::format("{:.3f}", value);
}

std::vector<EvalGroup> by_data(const std::vector<EvalData>& evals) {
  std::vector<EvalGroup> groups;
  for (const EvalData& eval : evals) {
    const auto same = std::find_if(groups.begin(), groups.end(),
                                   [&](const EvalGroup& group) { return group.front()->data() == eval.data(); });
    if (same == groups.end())
      groups.push_back({&eval});
    else
      same->push_back(&eval);
  }
  return groups;
}

std::string text_table(const std::vector<EvalData>& evals) {
  if (evals.empty()) return "";
  const std::vector<EvalGroup> groups = by_data(evals);
  const auto label = [&](const EvalData& eval) {
    return groups.size() > 1 ? fmt::format("{} ({})", eval.title, eval.data_name()) : eval.title;
  };
  size_t width = 5;
  for (const EvalData& eval : evals) width = std::max(width, label(eval).size());
  std::string out = fmt::format("{:<{}}  {:>2}", "model", width, "K");
  for (const Column& column : kColumns)
    out += fmt::format("  {:>{}}", column.narrow, std::max<size_t>(8, std::string_view(column.narrow).size()));
  out += "\n";
  for (const EvalGroup& group : groups)
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

/// "0.42 to 0.51", or "" without an interval. Both share a percent sign: the table is wide.
std::string interval_text(const EvalData& eval, const Column& column) {
  const auto [low, high] = eval.interval(column.key);
  if (!std::isfinite(low) || !std::isfinite(high)) return "";
  if (column.kind == Column::kPercent)
    return fmt::format("<small>{:.1f} to {}</small>", 100 * low, cell_text(column, high));
  return fmt::format("<small>{} to {}</small>", cell_text(column, low), cell_text(column, high));
}

std::string html_table(const EvalGroup& evals) {
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
std::string all_measures(const EvalGroup& evals) {
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
    const Column column{name.c_str(), "", "", counts_length(name) ? Column::kTokens : Column::kNumber};
    for (const EvalData* eval : evals)
      out += "<td>" + cell_text(column, eval->metric(name)) + interval_text(*eval, column) + "</td>";
    out += "</tr>\n";
  }
  return out + "</tbody></table></div></details>\n";
}

std::string tiles(const EvalGroup& evals) {
  const EvalGroup sets = plain_evals(evals);
  if (sets.size() < 2) return "";
  // What RL changed: the last two stages that could state answers at all.
  const EvalData& first = *sets[sets.size() - 2];
  const EvalData& last = *sets.back();
  std::string out = "<div class=\"tiles\">";
  for (const Column& column : kColumns) {
    static const std::set<std::string_view> in_the_table_only = {"unanswered", "unique", "accuracy"};
    if (in_the_table_only.contains(column.key)) continue;
    out += fmt::format("<div class=\"tile\"><b>{} → {}</b><span>{}</span></div>",
                       cell_text(column, first.metric(column.key)), cell_text(column, last.metric(column.key)),
                       column.title);
  }
  return out + fmt::format("</div><p class=\"note\">From “{}” to “{}”.</p>\n", html_escape(first.title),
                           html_escape(last.title));
}

constexpr int kColors = 6;

std::string reliability(const EvalGroup& evals) {
  std::string out, without;
  for (size_t i = 0; i < evals.size(); ++i) {
    const auto bins = evals[i]->bins();
    const double ece = evals[i]->metric("ece"), brier = evals[i]->metric("brier");
    if (bins.empty()) {
      without += (without.empty() ? "" : ", ") + html_escape(evals[i]->title);
      continue;
    }
    // A model that states the same for every answer can have no error here: AUROC 0.5 gives it away.
    const double auroc = evals[i]->metric("auroc");
    std::string note = std::isfinite(ece) ? fmt::format("ECE {:.3f}, Brier {:.3f}", ece, brier) : "";
    if (std::isfinite(auroc)) note += fmt::format(", AUROC {:.2f}", auroc);
    out += reliability_diagram(evals[i]->title, bins, note, static_cast<int>(i) % kColors);
  }
  if (out.empty()) return "";
  return "<h2>Reliability</h2><p class=\"soft\">Stated confidence against the share of answers "
         "that are correct, with 95 % intervals. On the dashed "
         "line the model means what it says; below it, it is too sure. The bars show how often each confidence is "
         "stated. AUROC: how often a correct answer is stated more surely than a wrong one (0.5 = not at all).</p><div "
         "class=\"grid2\">" +
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
std::vector<Series> series_of(const EvalGroup& evals, const PointsOf& points_of, size_t fewest = 1) {
  std::vector<Series> lines;
  for (size_t i = 0; i < evals.size(); ++i) {
    Series line = series_for(*evals[i], i);
    line.points = points_of(*evals[i]);
    if (line.points.size() >= fewest) lines.push_back(std::move(line));
  }
  return lines;
}

/// What sampling on brings: against the number of answers and against what they cost.
std::string coverage_curves(const EvalGroup& evals) {
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

std::string coverage_by_k(const EvalGroup& evals) {
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
std::vector<Series> series_by_rank(const EvalGroup& evals, const std::string& name) {
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

std::string ranks(const EvalGroup& evals) {
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
std::string evaluation_sections(const EvalGroup& evals, bool several) {
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
  const std::vector<EvalGroup> groups = by_data(data.evals);
  std::string body = heading(data);
  for (const EvalGroup& group : groups) body += evaluation_sections(group, groups.size() > 1);
  body += curves(data.curves);
  if (!data.last_samples.empty()) body += training_samples(data);
  for (const EvalGroup& group : groups) body += eval_samples(group);
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
