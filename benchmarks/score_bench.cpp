// SPDX-License-Identifier: Apache-2.0
// Time of judging a batch of completions: parse and match, then coverage, multi-Brier, uniqueness and log-det, the same
// work as peers/python_rewards.py on the same rows (score_data.py).
// usage: score_bench ROWS.jsonl [device] [answers] [repetitions]
// Prints one JSON object; times are medians over the repetitions, the first one left out.
#include <ATen/ATen.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <iostream>
#include <map>
#include <nlohmann/json.hpp>

#include "plural/device.h"
#include "plural/error.h"
#include "plural/reward.h"

namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point begin) { return std::chrono::duration<double>(Clock::now() - begin).count(); }

double median(std::vector<double> values) {
  if (values.size() > 1) values.erase(values.begin());  // the first one warms up
  std::nth_element(values.begin(), values.begin() + static_cast<long>(values.size() / 2), values.end());
  return values[values.size() / 2];
}

/// The rows of a file; the completions of one prompt share its example, as in training.
struct Rows {
  std::map<std::string, plural::Example> by_id;
  std::vector<const plural::Example*> examples;
  std::vector<std::string> completions;
};

Rows read_rows(const char* file) {
  Rows rows;
  std::ifstream in(file);
  if (!in) throw plural::InputError(std::string(file) + ": cannot be read");
  for (std::string line; std::getline(in, line);) {
    const plural::Example example = plural::parse_example(line, file);
    rows.completions.push_back(nlohmann::json::parse(line).at("completion"));
    rows.examples.push_back(&rows.by_id.try_emplace(example.id, example).first->second);
  }
  return rows;
}

}  // namespace

int main(int argc, char** argv) try {
  if (argc < 2) {
    std::cerr << "usage: score_bench ROWS.jsonl [device] [answers] [repetitions]\n";
    return 2;
  }
  const auto argument = [&](int i, const char* fallback) { return std::string(argc > i ? argv[i] : fallback); };
  const at::Device device = plural::parse_device(argument(2, "cpu"));
  const int64_t k = std::stoll(argument(3, "5"));
  const int repetitions = std::stoi(argument(4, "6"));
  const Rows rows = read_rows(argv[1]);
  std::vector<plural::CompletionView> views;
  for (size_t b = 0; b < rows.examples.size(); ++b) views.push_back({rows.examples[b], rows.completions[b], {}, k});
  const auto format = plural::make_answer_format("multi_answer");
  const auto matcher = plural::make_matcher("alias");
  const auto registry = plural::builtin_rewards();
  const std::vector<std::string> names = {"coverage", "brier", "uniqueness", "log_det"};

  std::map<std::string, std::vector<double>> seconds;
  std::map<std::string, double> means;
  for (int repetition = 0; repetition < repetitions; ++repetition) {
    auto begin = Clock::now();
    const plural::AnswerBatch answers = plural::build_answer_batch(views, *format, *matcher, nullptr, device);
    seconds["parse"].push_back(seconds_since(begin));
    double scored_s = 0;
    for (const std::string& name : names) {
      const auto reward = registry.make(name);
      begin = Clock::now();
      const plural::RewardOutput out = reward->score({answers, rows.examples, rows.completions});
      means[name] = out.row.to(at::kDouble).mean().item<double>();  // waits for the device
      seconds[name].push_back(seconds_since(begin));
      scored_s += seconds[name].back();
    }
    seconds["score"].push_back(scored_s);
    seconds["total"].push_back(seconds["parse"].back() + scored_s);
  }
  nlohmann::json medians = nlohmann::json::object();
  for (const auto& [name, values] : seconds)
    if (name != "total" && name != "score") medians[name] = median(values);
  std::cout << nlohmann::json{{"name", "score/plural/" + argument(2, "cpu")},
                              {"device", argument(2, "cpu")},
                              {"rows", views.size()},
                              {"answers", k},
                              {"seconds", medians},
                              {"score_s", median(seconds["score"])},
                              {"total_s", median(seconds["total"])},
                              {"means", means}}
                   .dump()
            << "\n";
  return 0;
} catch (const std::exception& error) {
  std::cerr << "score_bench: " << error.what() << "\n";
  return 1;
}
