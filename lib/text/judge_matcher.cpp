// SPDX-License-Identifier: Apache-2.0
#include "lib/text/judge_matcher.h"

#include <cctype>
#include <nlohmann/json.hpp>
#include <unordered_map>

#include "lib/core/format.h"
#include "lib/core/utf8.h"
#include "lib/external/chat_client.h"
#include "lib/external/parallel.h"
#include "lib/external/stop_after.h"
#include "lib/text/asked_matcher.h"

namespace plural {
namespace {

using Json = nlohmann::json;

/// `yes` in any case, anywhere in the reply (spec/official_rewards.md 7.11).
bool says_yes(const std::string& reply) {
  std::string lower = reply;
  for (char& c : lower) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return lower.find("yes") != std::string::npos;
}

class JudgeMatcher final : public Matcher {
 public:
  struct Options : external::ChatOptions {
    Options() { max_tokens = 20; }
    std::string prompt = external::kJudgePrompt;
    std::string fallback = "alias";
    bool per_gold = true;
    double deadline_s = kMatchDeadlineS;
    template <class V>
    void fields(V& v) {
      ChatOptions::fields(v);
      v.field("prompt", prompt, any_value(), "user message; {question} {gold} {answer} are filled in");
      v.field("fallback", fallback, one_of({"normalised", "alias", "word_set", "numeric"}),
              "where this matcher finds a match the judge is not asked");
      v.field("per_gold", per_gold, any_value(),
              "after a yes: ask about each of several gold answers which one it is; false: the first");
      v.field("deadline_s", deadline_s, above(0), kMatchDeadlineHelp);
    }
  };

  JudgeMatcher(Options options, const VariableLookup& variables)
      : options_(std::move(options)), fallback_(make_matcher(options_.fallback)), chat_(options_, variables) {}

  std::string name() const override { return "judge"; }
  std::string key(const Answer& candidate) const override { return fallback_->key(candidate); }
  std::vector<int64_t> gold_owners(const Example& example) const override {
    return owners_by_text(example, fallback_->gold_owners(example));
  }

  int64_t match(const Answer& candidate, const Example& example) const override {
    const MatchQuestion question{&candidate, &example};
    return match_all({&question, 1}, {}).gold[0];
  }

  MatchVerdicts match_all(std::span<const MatchQuestion> questions, const std::stop_token& stop) const override {
    MatchVerdicts verdicts = fallback_->match_all(questions, stop);
    verdicts.owners.clear();
    std::unordered_map<std::string, Job> jobs;  // equal questions are asked once
    for (size_t i = 0; i < questions.size(); ++i) {
      const auto& [candidate, example] = questions[i];
      if (verdicts.gold[i] >= 0 || candidate->text.empty() || example->gold.empty()) continue;
      Job job{example, candidate->text, request(*example, candidate->text, external::gold_text(*example))};
      std::string key = key_of(job);
      if (const auto known = memory_.find(key))
        verdicts.gold[i] = *known;
      else
        jobs.emplace(std::move(key), std::move(job)).first->second.places.push_back(i);
    }
    verdicts.metrics = {{"asked", static_cast<double>(jobs.size())},
                        {"requests", 0},
                        {"retries", 0},
                        {"cache_hits", 0},
                        {"failures", 0},
                        {"cache_errors", 0}};
    if (jobs.empty()) return verdicts;

    std::vector<std::pair<const std::string*, Job*>> work;
    for (auto& [key, job] : jobs) work.emplace_back(&key, &job);
    const external::StopAfter deadline(options_.deadline_s, stop);
    external::for_each_parallel(static_cast<int64_t>(work.size()), options_.http.concurrency,
                                [&](int64_t i) { judge(*work[static_cast<size_t>(i)].second, deadline.token()); });
    for (const auto& [key, job] : work) {
      for (const external::ChatReply& reply : job->replies) {
        external::count(reply, verdicts.metrics);
        if (verdicts.problem.empty()) verdicts.problem = reply.problem;
      }
      for (const size_t place : job->places) verdicts.gold[place] = job->gold;
      if (job->replies.back().problem.empty()) memory_.keep(*key, job->gold);
    }
    if (deadline.time_is_up() && verdicts.metrics["failures"] > 0)
      verdicts.problem = fmt::format("not all questions were answered within deadline_s = {}", options_.deadline_s);
    return verdicts;
  }

 private:
  struct Job {
    const Example* example;
    std::string candidate;
    std::string question;          ///< the request about all gold answers
    std::vector<size_t> places{};  ///< of the question in the call
    int64_t gold = -1;
    std::vector<external::ChatReply> replies{};  ///< after a failure nothing more is asked
  };

  std::string request(const Example& example, const std::string& candidate, const std::string& gold) const {
    const std::pair<std::string_view, std::string> values[] = {{"{question}", external::question_of(example)},
                                                               {"{gold}", gold},
                                                               {"{answer}", replace_invalid_utf8(candidate)}};
    return chat_.request(external::fill_template(options_.prompt, values));
  }

  /// The request does not say where one gold answer ends and the next begins, or leaves them out; the verdict counts
  /// them.
  static std::string key_of(const Job& job) {
    Json gold = Json::array();
    for (const GoldAnswer& answer : job.example->gold) gold.push_back(answer.answer);
    return gold.dump(-1, ' ', false, Json::error_handler_t::replace) + job.question;
  }

  /// False where the judge says no, and where it says nothing.
  bool ask(Job& job, const std::string& request, const std::stop_token& stop) const {
    job.replies.push_back(chat_.ask(
        request, stop, [](const std::string&) { return true; }, "a reply"));
    return job.replies.back().problem.empty() && says_yes(job.replies.back().text);
  }

  void judge(Job& job, const std::stop_token& stop) const {
    if (!ask(job, job.question, stop)) return;
    job.gold = 0;
    const std::vector<GoldAnswer>& gold = job.example->gold;
    if (!options_.per_gold || gold.size() == 1) return;
    for (size_t i = 0; i < gold.size(); ++i) {
      if (ask(job, request(*job.example, job.candidate, gold[i].answer), stop)) {
        job.gold = static_cast<int64_t>(i);
        return;
      }
      if (!job.replies.back().problem.empty()) return;  // it is right, whichever it is
    }
  }

  Options options_;
  std::unique_ptr<Matcher> fallback_;
  external::ChatClient chat_;
  mutable VerdictMemory<std::string> memory_;
};

}  // namespace

std::unique_ptr<Matcher> make_judge_matcher(const ConfigNode& options, const VariableLookup& variables) {
  return std::make_unique<JudgeMatcher>(read_options<JudgeMatcher::Options>(options), variables);
}

}  // namespace plural
