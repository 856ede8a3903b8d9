// SPDX-License-Identifier: Apache-2.0
#include <nlohmann/json.hpp>

#include <cstdio>
#include <limits>

#include "plural/error.h"
#include "plural/metrics.h"
#include "tests/support/catch.h"
#include "tests/support/temp_dir.h"

using namespace plural;
using Catch::Contains;

TEST_CASE("metrics are one JSON object a step, flushed at once") {
  const TempDir dir;
  const auto file = dir / "sub/metrics.jsonl";
  const auto sink = make_json_lines_sink(file, -1);
  sink->write(1, {{"loss", 0.1},
                  {"tokens", 512},
                  {"nan", std::numeric_limits<double>::quiet_NaN()},
                  {"inf", -std::numeric_limits<double>::infinity()},
                  {"a/b \"c\"", 1e-5}});
  CHECK(read_bytes(file) ==
        "{\"step\": 1, \"a/b \\\"c\\\"\": 1e-05, \"inf\": null, \"loss\": 0.1, \"nan\": null, \"tokens\": 512}\n");
  sink->write(2, {{"third", 1.0 / 3}});
  const std::string text = read_bytes(file);
  const auto second = nlohmann::json::parse(text.substr(text.find('\n') + 1));
  CHECK(second["third"].get<double>() == 1.0 / 3);  // every bit
  CHECK_THROWS_AS(sink->write(3, {{"step", 1.0}}), CheckError);
}

TEST_CASE("resuming drops the lines of steps that are done again, and half a line") {
  const TempDir dir;
  const auto file = dir.write(
      "metrics.jsonl", "{\"step\": 1, \"x\": 1}\n{\"step\": 2, \"x\": 2}\n{\"step\": 3, \"x\": 3}\n{\"step\": 4, \"x");
  make_json_lines_sink(file, 2)->write(3, {{"x", 30}});
  CHECK(read_bytes(file) == "{\"step\": 1, \"x\": 1}\n{\"step\": 2, \"x\": 2}\n{\"step\": 3, \"x\": 30}\n");
  make_json_lines_sink(file, 0);
  CHECK(read_bytes(file).empty());
  make_json_lines_sink(dir / "new.jsonl", 7)->write(8, {});
  CHECK(read_bytes(dir / "new.jsonl") == "{\"step\": 8}\n");
}

TEST_CASE("a full disk under the metrics is a SystemError") {
  const auto sink = make_json_lines_sink("/dev/full", -1);
  CHECK_THAT(thrown<SystemError>([&] {
               sink->write(1, {{"x", 1}});
             }),
             Contains("/dev/full") && Contains("No space left"));
}

namespace {

/// The events of every file in a folder, oldest file first, by a reader that is not plural's.
std::vector<nlohmann::json> read_events(const std::filesystem::path& dir) {
  const std::string command = std::string(std::getenv("PLURAL_TEST_PYTHON")) + " " + std::getenv("PLURAL_SOURCE_DIR") +
                              "/tests/parity/read_tfevents.py " + dir.string();
  FILE* pipe = ::popen(command.c_str(), "r");
  REQUIRE(pipe);
  std::vector<nlohmann::json> events;
  for (char line[4096]; std::fgets(line, sizeof(line), pipe);) events.push_back(nlohmann::json::parse(line));
  REQUIRE(::pclose(pipe) == 0);
  return events;
}

}  // namespace

TEST_CASE("TensorBoard files hold the scalars under valid checksums") {
  const TempDir dir;
  const auto sink = make_tensorboard_sink(dir / "tb", -1);
  sink->write(3, {{"reward/mean", 0.25}, {"loss", -1.5}});
  sink->write(300, {{"loss", 1e-3}});
  const auto file = std::filesystem::directory_iterator(dir / "tb")->path();
  CHECK_THAT(file.filename().string(), Catch::StartsWith("events.out.tfevents."));
  const auto events = read_events(dir / "tb");
  REQUIRE(events.size() == 4);
  CHECK(events[0] == nlohmann::json{{"version", "brain.Event:2"}});
  CHECK(events[1] == nlohmann::json{{"step", 3}, {"session", 1}});  // START: forget what was known from step 3 on
  CHECK(events[2] == nlohmann::json::parse(R"({"step": 3, "values": {"loss": -1.5, "reward/mean": 0.25}})"));
  CHECK(events[3]["step"] == 300);
  CHECK(events[3]["values"]["loss"].get<double>() == static_cast<double>(1e-3f));
}

TEST_CASE("resuming drops TensorBoard points of steps that are done again, and half a record") {
  const TempDir dir;
  const auto steps = [&] {
    std::vector<int64_t> found;
    for (const auto& event : read_events(dir.path()))
      if (event.contains("values")) found.push_back(event["step"].get<int64_t>());
    return found;
  };
  const auto write = [&](int64_t keep, std::initializer_list<int64_t> written) {
    const auto sink = make_tensorboard_sink(dir.path(), keep);
    for (const int64_t step : written) sink->write(step, {{"x", static_cast<double>(step)}});
  };
  dir.write("notes.txt", "mine");
  write(-1, {1, 2, 200, 300});
  const auto first = [&] {
    for (const auto& entry : std::filesystem::directory_iterator(dir.path()))
      if (entry.path().filename() != "notes.txt") return entry.path();
    return std::filesystem::path();
  }();
  std::filesystem::resize_file(first, std::filesystem::file_size(first) - 5);  // killed while it wrote step 300
  write(300, {301});
  CHECK(steps() == std::vector<int64_t>{1, 2, 200, 301});
  write(2, {3, 4});  // from a checkpoint two sessions back
  CHECK(steps() == std::vector<int64_t>{1, 2, 3, 4});
  write(4, {5});
  CHECK(steps() == std::vector<int64_t>{1, 2, 3, 4, 5});
  write(-1, {1});  // no checkpoint yet: from the start
  CHECK(steps() == std::vector<int64_t>{1});
  CHECK(read_bytes(dir / "notes.txt") == "mine");
}
