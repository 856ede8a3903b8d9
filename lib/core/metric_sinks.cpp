// SPDX-License-Identifier: Apache-2.0
// metrics.jsonl: one object a step, written at once.
#include <nlohmann/json.hpp>

#include <cmath>

#include "lib/core/file_io.h"
#include "lib/core/format.h"
#include "plural/checkpoint.h"
#include "plural/error.h"
#include "plural/metrics.h"

namespace plural {
namespace {

// The lines up to a step. A last line that a killed run left half-written is not JSON and goes too.
std::string lines_until(const std::filesystem::path& file, int64_t last_step) {
  if (last_step < 0 || !std::filesystem::exists(file)) return "";
  const std::string text = detail::read_whole_file(file);
  std::string kept;
  for (std::string_view rest = text; !rest.empty();) {
    const size_t end = rest.find('\n');
    if (end == std::string_view::npos) break;
    const std::string_view line = rest.substr(0, end);
    rest.remove_prefix(end + 1);
    const auto object = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
    const auto step = object.is_object() ? object.find("step") : object.end();
    if (step == object.end() || !step->is_number_integer() || step->get<int64_t>() > last_step) continue;
    kept.append(line).append("\n");
  }
  return kept;
}

class JsonLinesSink : public MetricSink {
 public:
  JsonLinesSink(const std::filesystem::path& file, int64_t keep_until_step) : file_(prepare(file, keep_until_step)) {}

  void write(int64_t step, const MetricMap& values) override {
    std::string line = fmt::format("{{\"step\": {}", step);
    for (const auto& [name, value] : values) {
      PLURAL_CHECK(name != "step", "a metric cannot be called 'step'");
      // fmt writes the shortest text that reads back as the same double.
      line += fmt::format(", {}: {}", nlohmann::json(name).dump(),
                          std::isfinite(value) ? fmt::format("{}", value) : "null");
    }
    line += "}\n";
    file_.append(line);
  }

 private:
  static const std::filesystem::path& prepare(const std::filesystem::path& file, int64_t keep_until_step) {
    if (file.has_parent_path()) detail::make_folders(file.parent_path());
    write_file_atomic(file, lines_until(file, keep_until_step));
    return file;
  }

  detail::AppendFile file_;
};

}  // namespace

std::unique_ptr<MetricSink> make_json_lines_sink(const std::filesystem::path& file, int64_t keep_until_step) {
  return std::make_unique<JsonLinesSink>(file, keep_until_step);
}

}  // namespace plural
