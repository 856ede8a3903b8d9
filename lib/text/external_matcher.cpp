// SPDX-License-Identifier: Apache-2.0
#include "lib/text/external_matcher.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <unordered_map>

#include "lib/core/format.h"
#include "lib/core/utf8.h"
#include "lib/external/stop_after.h"
#include "lib/external/worker_pool.h"
#include "lib/text/asked_matcher.h"
#include "plural/error.h"

namespace plural {
namespace {

using Json = nlohmann::json;

class ExternalMatcher final : public Matcher {
 public:
  struct Options : external::WorkerOptions {
    std::vector<std::string> sources;
    std::string fallback = "alias";
    double deadline_s = kMatchDeadlineS;
    template <class V>
    void fields(V& v) {
      WorkerOptions::fields(v);
      v.field("sources", sources, required_value(), "the workers are asked for examples of these sources only");
      v.field("fallback", fallback, one_of({"normalised", "alias", "word_set", "numeric"}),
              "the matcher of all other examples; where it finds a match no worker is asked");
      v.field("deadline_s", deadline_s, above(0), kMatchDeadlineHelp);
    }
  };

  explicit ExternalMatcher(Options options)
      : options_(std::move(options)), fallback_(make_matcher(options_.fallback)), pool_(options_) {}

  std::string name() const override { return "external"; }
  std::string key(const Answer& candidate) const override { return fallback_->key(candidate); }

  int64_t match(const Answer& candidate, const Example& example) const override {
    const MatchQuestion question{&candidate, &example};
    return match_all({&question, 1}, {}).gold[0];
  }

  /// Spellings are compared by the fallback. What it can match with nothing (option "A") a worker may know: it counts
  /// by its text.
  std::vector<int64_t> gold_owners(const Example& example) const override {
    std::vector<int64_t> owners = fallback_->gold_owners(example);
    return asks_about(example) ? owners_by_text(example, std::move(owners)) : owners;
  }

  MatchVerdicts match_all(std::span<const MatchQuestion> questions, const std::stop_token& stop) const override {
    MatchVerdicts verdicts = fallback_->match_all(questions);
    std::erase_if(verdicts.owners, [this](const auto& entry) { return asks_about(*entry.first); });
    std::unordered_map<std::string, std::vector<size_t>> asked;  // question as sent -> places of it
    std::unordered_map<const Example*, Json> gold;
    for (size_t i = 0; i < questions.size(); ++i) {
      const Example& example = *questions[i].example;
      if (verdicts.gold[i] >= 0 || questions[i].candidate->text.empty() || example.gold.empty()) continue;
      if (!asks_about(example)) continue;
      Json& spellings = gold[&example];
      if (spellings.is_null()) spellings = gold_of(example);
      const Json item = {{"candidate", replace_invalid_utf8(questions[i].candidate->text)}, {"gold", spellings}};
      const std::string key = item.dump(-1, ' ', false, Json::error_handler_t::replace);
      if (const auto known = memory_.find(key)) {
        verdicts.gold[i] = *known;
      } else {
        asked[key].push_back(i);
      }
    }
    std::vector<Json> items;
    std::vector<const std::pair<const std::string, std::vector<size_t>>*> order;
    for (const auto& entry : asked) {
      items.push_back(Json::parse(entry.first));
      order.push_back(&entry);
    }
    external::WorkerAnswers answers = ask(items, stop);
    for (size_t i = 0; i < items.size(); ++i) {
      const Json index = answers.results[i].is_object() ? answers.results[i].value("match", Json()) : Json();
      const auto choices = static_cast<int64_t>(items[i]["gold"].size());
      if (!index.is_number_integer() || index.get<int64_t>() < -1 || index.get<int64_t>() >= choices) {
        if (answers.results[i].is_object()) {
          ++answers.failures;
          if (answers.problem.empty())
            answers.problem = fmt::format("expected {{\"match\": -1 to {}}}, found {}", choices - 1,
                                          answers.results[i].dump());
        }
        continue;
      }
      memory_.keep(order[i]->first, index.get<int64_t>());
      for (const size_t place : order[i]->second) verdicts.gold[place] = index.get<int64_t>();
    }
    verdicts.metrics = {{"asked", static_cast<double>(items.size())},
                        {"failures", static_cast<double>(answers.failures)},
                        {"time_outs", static_cast<double>(answers.time_outs)},
                        {"crashes", static_cast<double>(answers.crashes)},
                        {"starts", static_cast<double>(answers.starts)}};
    verdicts.problem = std::move(answers.problem);
    return verdicts;
  }

 private:
  bool asks_about(const Example& example) const {
    return std::find(options_.sources.begin(), options_.sources.end(), example.source) != options_.sources.end();
  }
  static Json gold_of(const Example& example) {
    Json list = Json::array();
    for (const GoldAnswer& gold : example.gold) {
      Json spellings = Json::array({gold.answer});
      for (const std::string& alias : gold.aliases) spellings.push_back(alias);
      list.push_back(std::move(spellings));
    }
    return list;
  }
  external::WorkerAnswers ask(const std::vector<Json>& items, const std::stop_token& stop) const {
    if (items.empty()) return {};
    const external::StopAfter deadline(options_.deadline_s, stop);
    external::WorkerAnswers answers = pool_.ask("match", items, deadline.token());
    if (deadline.time_is_up() && answers.failures > 0)
      answers.problem = fmt::format("not all questions were answered within deadline_s = {}", options_.deadline_s);
    return answers;
  }

  Options options_;
  std::unique_ptr<Matcher> fallback_;
  mutable external::WorkerPool pool_;
  mutable VerdictMemory<std::string> memory_;
};

}  // namespace

std::unique_ptr<Matcher> make_external_matcher(const ConfigNode& options) {
  return std::make_unique<ExternalMatcher>(read_options<ExternalMatcher::Options>(options));
}

}  // namespace plural
