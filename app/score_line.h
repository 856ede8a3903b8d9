// SPDX-License-Identifier: Apache-2.0
// The lines of `plural score`, apart from the command so that the fuzzer can reach it.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "app/line_io.h"
#include "plural/answers.h"
#include "plural/reward.h"
#include "plural/run_config.h"

namespace plural::app {

class LineScorer {
 public:
  LineScorer(const RunConfig& config, const Registry<Reward>& rewards, const VariableLookup& variables = {});
  /// {"completion", "gold", ...} -> {"answers", "confidences", ...}. A line that does not say what is needed throws
  /// InputError or one of nlohmann's exceptions; what the completion says never does.
  Json operator()(const InputLine& line) const;
  /// The same for many lines together, which is what slow rewards are good at: one list with one output for each line,
  /// or with none for a line whose `error` was set.
  std::vector<std::vector<Json>> operator()(std::vector<InputLine*>& lines) const;
  /// How many lines at a time are worth waiting for.
  size_t batch() const { return rewards_.has_slow() ? 64 : 1; }

 private:
  struct Question;
  Question read(const InputLine& line) const;
  std::vector<Json> score(std::span<const Question> questions) const;

  std::unique_ptr<AnswerFormat> format_;
  std::unique_ptr<Matcher> matcher_;
  RewardStack rewards_;
  int64_t num_answers_;
};

}  // namespace plural::app
