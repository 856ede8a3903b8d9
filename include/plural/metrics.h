// SPDX-License-Identifier: Apache-2.0
// Numbers of a run: one record a step, to any number of sinks.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace plural {

using MetricMap = std::map<std::string, double>;

class MetricSink {
 public:
  virtual ~MetricSink() = default;
  virtual void write(int64_t step, const MetricMap& values) = 0;
};

/// One JSON object a step, flushed each time: {"step": n, "name": value, ...}; non-finite values are null.
/// `keep_until_step` drops later lines of an existing file first (resume); -1 starts the file anew.
std::unique_ptr<MetricSink> make_json_lines_sink(const std::filesystem::path& file, int64_t keep_until_step);
/// TensorBoard event file in `dir` (scalars only). `keep_until_step` drops later points from the event files that are
/// there already (resume), and what a killed process left half-written; -1 removes those files.
std::unique_ptr<MetricSink> make_tensorboard_sink(const std::filesystem::path& dir, int64_t keep_until_step);

}  // namespace plural
