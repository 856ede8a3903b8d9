// SPDX-License-Identifier: Apache-2.0
// One self-contained HTML page about a run folder or an evaluation: curves, reliability diagrams, coverage by K, the
// table of evaluations, sample completions. Reads only what is on disk.
#pragma once

#include <filesystem>
#include <string>

namespace plural::eval {

struct Report {
  std::filesystem::path page;  ///< the HTML file
  std::string table;           ///< the table of evaluations as text; "" when there are none
};

/// Writes `dir`/report.html (or `page`, when given). `dir` is a run folder (metrics.jsonl, samples/, evals/*/) or an
/// evaluation (metrics.json, samples.jsonl); parts that are absent are left out. Evaluations come in the order of
/// evals/order.json (a list of folder names), otherwise by name. A folder that is neither throws InputError.
Report write_report(const std::filesystem::path& dir, const std::filesystem::path& page = {});

}  // namespace plural::eval
