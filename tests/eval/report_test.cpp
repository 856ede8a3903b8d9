// SPDX-License-Identifier: Apache-2.0
// What a report makes of the files that it finds.
#include "lib/eval/report.h"

#include <filesystem>

#include "plural/error.h"
#include "tests/support/catch.h"
#include "tests/support/temp_dir.h"

using namespace plural;
using Catch::Contains;

namespace {

const std::string kMetrics = R"({"num_answers": 2, "data": "d.jsonl", "metrics": {"coverage": 0.5}})";

/// A folder `mine` in `dir` with an evaluation.
std::filesystem::path evaluation(const TempDir& dir, const std::string& metrics, const std::string& samples) {
  std::filesystem::create_directory(dir / "mine");
  dir.write("mine/metrics.json", metrics);
  dir.write("mine/samples.jsonl", samples);
  return dir / "mine";
}

/// A line of samples.jsonl with one answer that was written and one that was left out.
std::string sample(const std::string& prompt, const std::string& confidence, bool correct) {
  return R"({"id": ")" + prompt + R"(", "prompt": ")" + prompt +
         R"(", "completion": "<answer1>x</answer1>", "num_answers": 2, "sample": 0, "answers": [)" +
         R"({"begin": 0, "end": 20, "confidence": )" + confidence + R"(, "correct": )" + (correct ? "true" : "false") +
         R"(}, {"begin": 0, "end": 0, "confidence": null, "correct": false}]})" + "\n";
}

}  // namespace

TEST_CASE("a folder has its name in the report, with and without a slash at the end") {
  const TempDir dir;
  const std::string folder = evaluation(dir, kMetrics, "").string();
  for (const char* end : {"", "/", "/."}) {
    const eval::Report report = eval::write_report(folder + end);
    CHECK_THAT(read_bytes(report.page), Contains("<h1>mine</h1>") && Contains("<title>plural: mine</title>"));
    CHECK_THAT(report.table, Contains("\nmine "));
  }
}

TEST_CASE("samples are ranked by what was written and stated: 85 is no confidence, a number left out no answer") {
  const TempDir dir;
  // Correct, but 85 counts as 0: 1/2 - 1. Wrong with .6: -.36. Wrong with 1: -1, not shared with the one left out.
  const auto folder = evaluation(
      dir, kMetrics, sample("sure", "1", false) + sample("odd", "85", true) + sample("unsure", "0.6", false));
  const std::string page = read_bytes(eval::write_report(folder).page);
  const size_t best = page.find("<h3>unsure</h3>"), next = page.find("<h3>odd</h3>"),
               worst = page.find("<h3>sure</h3>");
  REQUIRE(worst != std::string::npos);
  CHECK(best < next);
  CHECK(next < worst);
}

TEST_CASE("JSON that is not plural's is refused by name, and a line without a step is skipped") {
  const TempDir dir;
  const auto folder = evaluation(dir, R"({"title": 5})", "");
  CHECK_THAT(thrown<InputError>([&] { eval::write_report(folder); }),
             Contains(folder.string()) && Contains("not as plural writes it"));
  dir.write("mine/metrics.json", kMetrics);
  dir.write("mine/samples.jsonl", R"({"num_answers": "two"})");
  CHECK_THAT(thrown<InputError>([&] { eval::write_report(folder); }), Contains("not as plural writes it"));
  dir.write("mine/samples.jsonl", "");
  dir.write("mine/metrics.jsonl", "{\"loss\": 1}\n{\"step\": 1, \"loss\": 2}\n{\"step\": 2, \"loss\": 3}\n");
  const std::string page = read_bytes(eval::write_report(folder).page);
  CHECK_THAT(page, Contains("Training curves") && !Contains("nan"));
}
