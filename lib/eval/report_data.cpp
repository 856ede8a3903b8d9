// SPDX-License-Identifier: Apache-2.0
#include "lib/eval/report_data.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <limits>
#include <sstream>

#include "lib/core/format.h"
#include "plural/error.h"

namespace plural::eval {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

std::string read_text(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

json read_json(const fs::path& file) { return json::parse(read_text(file), nullptr, /*allow_exceptions=*/false); }

/// The lines that `wanted` wants; a file may be larger than memory.
template <class Wanted>
std::vector<json> read_lines(const fs::path& file, const Wanted& wanted) {
  std::vector<json> lines;
  std::ifstream in(file, std::ios::binary);
  for (std::string text; std::getline(in, text);) {
    json line = json::parse(text, nullptr, false);
    if (line.is_object() && wanted(line)) lines.push_back(std::move(line));
  }
  return lines;
}
std::vector<json> read_lines(const fs::path& file) {
  return read_lines(file, [](const json&) { return true; });
}

double number_or_nan(const json& object, const std::string& key) {
  const auto it = object.is_object() ? object.find(key) : object.end();
  return object.is_object() && it != object.end() && it->is_number() ? it->get<double>()
                                                                     : std::numeric_limits<double>::quiet_NaN();
}

/// A list of two numbers.
std::pair<double, double> pair_or_nan(const json& object, const std::string& key) {
  const double nothing = std::numeric_limits<double>::quiet_NaN();
  const auto it = object.find(key);
  if (it == object.end() || !it->is_array() || it->size() != 2 || !it->at(0).is_number() || !it->at(1).is_number())
    return {nothing, nothing};
  return {it->at(0).get<double>(), it->at(1).get<double>()};
}

EvalData load_eval(const fs::path& dir) {
  EvalData data;
  data.name = folder_name(dir);
  data.info = read_json(dir / "metrics.json");
  if (!data.info.is_object()) {
    throw InputError(fmt::format("{}: not a JSON object; run `plural eval` again", (dir / "metrics.json").string()));
  }
  data.title = data.info.value("title", data.name);
  if (data.title.empty()) data.title = data.name;
  const int64_t k = data.info.value("num_answers", int64_t{0});
  data.samples = read_lines(dir / "samples.jsonl", [k](const json& row) {
    return row.value("sample", int64_t{0}) == 0 && row.value("num_answers", int64_t{0}) == k;
  });
  return data;
}

std::vector<EvalData> load_evals(const fs::path& dir) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(dir)) {
    if (fs::exists(entry.path() / "metrics.json")) names.push_back(entry.path().filename().string());
  }
  std::sort(names.begin(), names.end());
  if (const json order = read_json(dir / "order.json"); order.is_array()) {
    const auto place = [&](const std::string& name) {
      return std::find(order.begin(), order.end(), json(name)) - order.begin();  // the end for names not listed
    };
    std::stable_sort(names.begin(), names.end(), [&](const auto& a, const auto& b) { return place(a) < place(b); });
  }
  std::vector<EvalData> evals;
  for (const std::string& name : names) evals.push_back(load_eval(dir / name));
  return evals;
}

std::map<std::string, Points> load_curves(const fs::path& file) {
  std::map<std::string, Points> curves;
  for (const json& line : read_lines(file)) {
    const double step = number_or_nan(line, "step");
    if (std::isnan(step)) continue;
    for (const auto& [name, value] : line.items()) {
      if (name == "step" || !(value.is_number() || value.is_null())) continue;
      curves[name].emplace_back(step,
                                value.is_number() ? value.get<double>() : std::numeric_limits<double>::quiet_NaN());
    }
  }
  return curves;
}

/// Rows of the newest samples/step_N.jsonl.
void load_last_samples(const fs::path& dir, ReportData* data) {
  fs::path newest;
  for (const auto& entry : fs::directory_iterator(dir)) {
    const std::string stem = entry.path().stem().string();
    if (!stem.starts_with("step_") || entry.path().extension() != ".jsonl") continue;
    const int64_t step = std::atoll(stem.c_str() + 5);
    if (step >= data->last_sample_step) data->last_sample_step = step, newest = entry.path();
  }
  if (!newest.empty()) data->last_samples = read_lines(newest);
}

}  // namespace

bool EvalData::asks_for_sets() const {
  const std::string mode = info.value("mode", "");
  return mode != "independent" && mode != "sequential";
}

bool EvalData::plain() const {
  return asks_for_sets() && info.value("confidence", "stated") == "stated" &&
         info.value("format", "") != "verbalised" && info.value("baseline", "").empty();
}

std::string EvalData::data() const { return info.value("data", ""); }

std::string EvalData::data_name() const { return info.value("data_name", fs::path(data()).stem().string()); }

std::pair<double, double> EvalData::interval(const std::string& key) const {
  const auto all = info.find("intervals");
  const double nothing = std::numeric_limits<double>::quiet_NaN();
  if (all == info.end() || !all->is_object()) return {nothing, nothing};
  return pair_or_nan(*all, key);
}

double EvalData::metric(const std::string& key) const {
  const auto it = info.find("metrics");
  return it == info.end() ? std::numeric_limits<double>::quiet_NaN() : number_or_nan(*it, key);
}

std::vector<ReliabilityBar> EvalData::bins() const {
  std::vector<ReliabilityBar> bins;
  const auto it = info.find("bins");
  if (it == info.end() || !it->is_array()) return bins;
  for (const json& bin : *it) {
    const double count = number_or_nan(bin, "count");
    if (!(count > 0)) continue;
    const auto [low, high] = pair_or_nan(bin, "accuracy_interval");
    bins.push_back({number_or_nan(bin, "low"), number_or_nan(bin, "high"), count, number_or_nan(bin, "confidence"),
                    number_or_nan(bin, "accuracy"), low, high});
  }
  return bins;
}

Points EvalData::by_num_answers(const std::string& key) const {
  Points points;
  const auto it = info.find("by_num_answers");
  if (it == info.end() || !it->is_array()) return points;
  for (const json& entry : *it) {
    const auto metrics = entry.find("metrics");
    if (metrics != entry.end()) points.emplace_back(number_or_nan(entry, "num_answers"), number_or_nan(*metrics, key));
  }
  std::sort(points.begin(), points.end());
  return points;
}

Points EvalData::curve(const std::string& x, const std::string& y) const {
  Points points;
  const auto it = info.find("curve");
  if (it == info.end() || !it->is_array()) return points;
  for (const json& point : *it)
    if (const double at = number_or_nan(point, x); std::isfinite(at)) points.emplace_back(at, number_or_nan(point, y));
  return points;
}

EvalGroup plain_evals(const EvalGroup& evals) {
  EvalGroup out;
  std::copy_if(evals.begin(), evals.end(), std::back_inserter(out), [](const EvalData* eval) { return eval->plain(); });
  return out;
}

std::string folder_name(const fs::path& dir) {
  const fs::path whole = fs::absolute(dir).lexically_normal();
  return (whole.has_filename() ? whole : whole.parent_path()).filename().string();
}

ReportData load_report_data(const fs::path& dir) {
  if (!fs::is_directory(dir)) throw InputError(fmt::format("{}: is not a folder; expected a run folder", dir.string()));
  ReportData data;
  data.dir = dir;
  if (fs::exists(dir / "manifest.json")) data.manifest = read_json(dir / "manifest.json");
  if (fs::exists(dir / "config.yaml")) data.config = read_text(dir / "config.yaml");
  if (fs::exists(dir / "metrics.jsonl")) data.curves = load_curves(dir / "metrics.jsonl");
  if (fs::is_directory(dir / "evals")) data.evals = load_evals(dir / "evals");
  // An evaluation with a baseline beside it: its own numbers come first.
  if (fs::exists(dir / "metrics.json")) data.evals.insert(data.evals.begin(), load_eval(dir));
  if (data.evals.empty() && fs::is_directory(dir / "samples")) load_last_samples(dir / "samples", &data);
  if (data.curves.empty() && data.evals.empty()) {
    throw InputError(
        fmt::format("{}: holds neither metrics.jsonl (a run), evals/*/metrics.json nor metrics.json (an "
                    "evaluation); give the folder of `plural train` or `plural eval`",
                    dir.string()));
  }
  return data;
}

}  // namespace plural::eval
