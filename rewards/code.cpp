// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <map>
#include <unordered_map>

#include "lib/core/format.h"
#include "lib/external/parallel.h"
#include "lib/external/program_judge.h"
#include "rewards/outside.h"
#include "rewards/reward_support.h"

namespace plural {
namespace {

using external::ProgramTest;

/// Each answer is a program; its value says how many of the example's tests it passes.
class Code final : public Reward {
 public:
  struct Options : external::ProgramOptions {
    std::string grade = "all";
    rewards::CombineOptions combine;
    template <class V>
    void fields(V& v) {
      ProgramOptions::fields(v);
      v.field("grade", grade, one_of({"all", "fraction"}), "all: 1 if every test passes; fraction: passed / tests");
      combine.fields(v);
    }
  };

  explicit Code(Options options) : options_(std::move(options)), judge_(options_) {}
  std::string name() const override { return "code"; }
  std::string formula() const override {
    const std::string value = options_.grade == "all" ? "1 if a program passes every test" : "tests passed / tests";
    return options_.combine.combine == "mean" ? "sum over different programs (" + value + ") / K" : "best of " + value;
  }
  bool slow() const override { return true; }
  double fail_value() const override { return options_.combine.fail_value; }
  bool applies_to(const Example& example) const override { return !judge_.tests_of(example).empty(); }

  // Right is what the matcher `code` finds right: every test passed. A wrong program may fail one test of many.
  double zero_confidence_margin(int64_t k, bool exclusive) const override {
    if (options_.grade == "fraction") return 0;
    return options_.combine.combine == "mean" || k == 1 ? 1 / static_cast<double>(k) : 0;
  }

  RewardOutput score(const RewardInput& input) const override {
    const AnswerBatch& answers = input.answers;
    std::unordered_map<const Example*, std::vector<ProgramTest>> tests;
    Tensor valid = at::zeros({answers.rows}, at::kBool);
    std::map<std::pair<const Example*, std::string>, Job> jobs;  // the same program is run once
    std::vector<rewards::Slot> slots;
    std::vector<const Job*> job_of_slot;
    for (int64_t b = 0; b < answers.rows; ++b) {
      const Example* example = input.examples[static_cast<size_t>(b)];
      const auto found = tests.find(example);
      const std::vector<ProgramTest>& own = found != tests.end() ? found->second
                                                                 : tests[example] = judge_.tests_of(*example);
      if (own.empty()) continue;
      valid[b] = true;
      const std::vector<Answer>& list = input.answers.sets[static_cast<size_t>(b)].answers;
      std::vector<const Job*> seen;
      for (size_t k = 0; k < list.size(); ++k) {
        std::string program = external::program_of(list[k].text);
        if (program.empty()) continue;
        Job& job = jobs[{example, std::move(program)}];
        job.tests = &own;
        if (std::find(seen.begin(), seen.end(), &job) != seen.end()) continue;  // written twice, paid once
        seen.push_back(&job);
        slots.push_back({b, static_cast<int64_t>(k)});
        job_of_slot.push_back(&job);
      }
    }
    std::vector<std::pair<const std::string*, Job*>> work;
    for (auto& [key, job] : jobs) work.emplace_back(&key.second, &job);
    external::for_each_parallel(static_cast<int64_t>(work.size()), options_.parallel, [&](int64_t i) {
      const auto& [program, job] = work[static_cast<size_t>(i)];
      job->verdict = judge_.judge(*program, *job->tests, options_.grade == "fraction", input.stop);
    });

    std::vector<double> values;
    for (const Job* job : job_of_slot) values.push_back(value_of(*job));
    RewardOutput out = rewards::combine_answers(answers, slots, values, options_.combine);
    out.valid = valid.to(answers.k.device());
    for (const auto& [program, job] : work) {
      out.metrics["programs"] += 1;
      out.metrics["runs"] += static_cast<double>(job->verdict.runs);
      out.metrics["time_outs"] += static_cast<double>(job->verdict.time_outs);
      out.metrics["failures"] += job->verdict.problem.empty() ? 0 : 1;
      if (out.problem.empty()) out.problem = job->verdict.problem;
    }
    return out;
  }

 private:
  struct Job {
    const std::vector<ProgramTest>* tests = nullptr;
    external::ProgramVerdict verdict;
  };

  double value_of(const Job& job) const {
    if (!job.verdict.problem.empty()) return options_.combine.fail_value;
    const auto passed = static_cast<double>(job.verdict.passed), tests = static_cast<double>(job.tests->size());
    return options_.grade == "fraction" ? passed / tests : passed == tests ? 1.0 : 0.0;
  }

  Options options_;
  external::ProgramJudge judge_;
};

}  // namespace

void register_code(Registry<Reward>& registry) {
  add_reward<Code>(registry, "code", "programs that pass tests, run in a sandbox");
}

}  // namespace plural
