// SPDX-License-Identifier: Apache-2.0
#include "lib/text/code_matcher.h"

#include <map>
#include <unordered_map>
#include <utility>

#include "lib/core/format.h"
#include "lib/external/parallel.h"
#include "lib/external/program_judge.h"
#include "lib/external/stop_after.h"
#include "lib/text/asked_matcher.h"
#include "plural/error.h"

namespace plural {
namespace {

class CodeMatcher final : public Matcher {
 public:
  struct Options : external::ProgramOptions {
    double deadline_s = kMatchDeadlineS;
    template <class V>
    void fields(V& v) {
      ProgramOptions::fields(v);
      v.field("deadline_s", deadline_s, above(0), kMatchDeadlineHelp);
    }
  };

  explicit CodeMatcher(Options options) : options_(std::move(options)), judge_(options_) {}

  std::string name() const override { return "code"; }
  // The text: normal forms lose what tells x + y from x - y.
  std::string key(const Answer& candidate) const override { return external::program_of(candidate.text); }

  int64_t match(const Answer& candidate, const Example& example) const override {
    const MatchQuestion question{&candidate, &example};
    return match_all({&question, 1}, {}).gold[0];
  }

  MatchVerdicts match_all(std::span<const MatchQuestion> questions, const std::stop_token& stop) const override {
    std::map<Question, Job> jobs;  // equal questions are asked once
    for (size_t i = 0; i < questions.size(); ++i) {
      const Example& example = *questions[i].example;
      std::string program = key(*questions[i].candidate);
      if (program.empty()) continue;
      Job& job = jobs[{tests_text(example), std::move(program)}];
      job.example = &example;
      job.places.push_back(i);
    }
    std::vector<std::pair<const Question*, Job*>> work;
    std::unordered_map<const Example*, std::vector<external::ProgramTest>> tests;
    for (auto& [question, job] : jobs) {
      if (const auto known = memory_.find(question)) {
        job.gold = *known;
        continue;
      }
      const auto [found, is_new] = tests.try_emplace(job.example);
      if (is_new) found->second = tests_of(*job.example);
      work.emplace_back(&question, &job);
    }
    const external::StopAfter deadline(options_.deadline_s, stop);
    external::for_each_parallel(static_cast<int64_t>(work.size()), options_.parallel, [&](int64_t i) {
      const auto& [question, job] = work[static_cast<size_t>(i)];
      const std::vector<external::ProgramTest>& own = tests.at(job->example);
      const external::ProgramVerdict verdict = judge_.judge(question->second, own, /*all=*/false, deadline.token());
      job->problem = verdict.problem;
      job->gold = verdict.passed == static_cast<int64_t>(own.size()) ? 0 : -1;
      if (job->problem.empty()) memory_.keep(*question, job->gold);
    });

    MatchVerdicts verdicts;
    verdicts.gold.assign(questions.size(), -1);
    // Remembered programs count too: the numbers do not depend on what was asked before.
    verdicts.metrics = {{"programs", static_cast<double>(jobs.size())}, {"failures", 0}};
    for (const auto& [question, job] : jobs) {
      for (const size_t place : job.places) verdicts.gold[place] = job.gold;
      verdicts.metrics["failures"] += job.problem.empty() ? 0 : 1;
      if (verdicts.problem.empty()) verdicts.problem = job.problem;
    }
    if (deadline.time_is_up() && verdicts.metrics["failures"] > 0)
      verdicts.problem = fmt::format("not all programs were run within deadline_s = {}", options_.deadline_s);
    return verdicts;
  }

 private:
  using Question = std::pair<std::string, std::string>;  ///< tests as JSON text, program
  struct Job {
    const Example* example = nullptr;
    std::vector<size_t> places;  ///< of the question in the call
    int64_t gold = -1;
    std::string problem;  ///< why it could not be judged
  };

  const std::string& tests_text(const Example& example) const {
    static const std::string kNone;
    const auto found = example.extra.find(options_.tests);
    return found == example.extra.end() ? kNone : found->second;
  }

  std::vector<external::ProgramTest> tests_of(const Example& example) const {
    std::vector<external::ProgramTest> tests = judge_.tests_of(example);
    if (tests.empty())
      throw InputError(fmt::format("example '{}': the matcher 'code' needs tests in the field '{}', found none",
                                   example.id, options_.tests));
    if (example.gold.empty())
      throw InputError(
          fmt::format("example '{}': the matcher 'code' needs a gold answer, such as a reference program", example.id));
    return tests;
  }

  Options options_;
  external::ProgramJudge judge_;
  mutable VerdictMemory<Question> memory_;
};

}  // namespace

std::unique_ptr<Matcher> make_code_matcher(const ConfigNode& options) {
  return std::make_unique<CodeMatcher>(read_options<CodeMatcher::Options>(options));
}

}  // namespace plural
