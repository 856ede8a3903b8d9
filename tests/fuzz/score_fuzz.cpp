// SPDX-License-Identifier: Apache-2.0
// libFuzzer: any bytes as a line of `plural score`, from JSON to rewards. A line is refused by an exception that the
// command turns into an error line, or it is scored with finite numbers.
#include <ATen/Parallel.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "app/score_line.h"
#include "plural/error.h"

using namespace plural;

namespace {

std::vector<PartSpec> rewards() {
  std::vector<PartSpec> specs;
  for (const std::string& name : builtin_rewards().names()) {
    if (name == "external" || name == "judge" || name == "code") continue;  // they ask others
    PartSpec spec;
    spec.name = name;
    spec.options.kind = ConfigNode::Kind::kMap;
    specs.push_back(std::move(spec));
  }
  return specs;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const auto scorers = [] {
    at::set_num_threads(1);
    std::vector<app::LineScorer> all;
    for (const std::string& format : answer_format_names()) {
      RunConfig config;
      config.format = format;
      config.rewards = rewards();
      all.emplace_back(config, builtin_rewards());
    }
    return all;
  }();
  if (size < 1) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  const app::InputLine line = app::parse_line(text, "fuzz:1", 0);
  app::to_line({{"error", line.error}});
  if (!line.error.empty()) return 0;
  try {
    const app::Json out = scorers[data[0] % scorers.size()](line);
    if (!std::isfinite(out["total"].get<double>())) std::abort();
    app::to_line(out);
  } catch (const InputError&) {
  } catch (const nlohmann::json::exception&) {
  }
  return 0;
}
