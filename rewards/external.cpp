// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <unordered_map>

#include "lib/core/format.h"
#include "lib/external/worker_pool.h"
#include "lib/core/utf8.h"
#include "rewards/reward_support.h"

namespace plural {
namespace {

using Json = nlohmann::json;

/// What worker processes say, one value a row.
class External final : public Reward {
 public:
  struct Options : external::WorkerOptions {
    std::vector<std::string> sources;
    double fail_value = 0;
    template <class V>
    void fields(V& v) {
      WorkerOptions::fields(v);
      v.field("sources", sources, any_value(), "only rows whose example has one of these sources; empty = all rows");
      v.field("fail_value", fail_value, any_value(), "value of a row that could not be judged");
    }
  };

  explicit External(Options options) : options_(std::move(options)), pool_(options_) {}
  std::string name() const override { return "external"; }
  std::string formula() const override {
    return fmt::format("what '{}' says, {} where it fails", fmt::join(options_.command, " "), options_.fail_value);
  }
  bool slow() const override { return true; }
  double fail_value() const override { return options_.fail_value; }
  bool applies_to(const Example& example) const override {
    return options_.sources.empty() ||
           std::find(options_.sources.begin(), options_.sources.end(), example.source) != options_.sources.end();
  }

  RewardOutput score(const RewardInput& input) const override {
    const AnswerBatch& answers = input.answers;
    std::vector<Json> items;
    std::vector<int64_t> rows;
    std::unordered_map<const Example*, Json> examples;
    const Tensor asked = answers.k.to(at::kCPU);
    for (int64_t b = 0; b < answers.rows; ++b) {
      const Example* example = input.examples[static_cast<size_t>(b)];
      if (!applies_to(*example)) continue;
      Json& as_json = examples[example];
      if (as_json.is_null()) as_json = Json::parse(to_json_line(*example));
      items.push_back(item_of(input, b, asked[b].item<int64_t>(), as_json));
      rows.push_back(b);
    }
    external::WorkerAnswers said = pool_.ask("score", items, input.stop);

    Tensor row = at::full({answers.rows}, options_.fail_value, at::kDouble);
    Tensor valid = at::zeros({answers.rows}, at::kBool);
    auto row_place = row.accessor<double, 1>();
    auto valid_place = valid.accessor<bool, 1>();
    for (size_t i = 0; i < rows.size(); ++i) {
      const int64_t b = rows[i];
      valid_place[b] = true;
      const Json& result = said.results[i];
      if (!result.is_object()) continue;
      if (result.value("valid", Json(true)) == Json(false)) {
        valid_place[b] = false;
        continue;
      }
      if (!result.contains("value") || !is_finite_number(result["value"])) {
        ++said.failures;
        if (said.problem.empty())
          said.problem = fmt::format("expected {{\"value\": a number}}, found {}", result.dump().substr(0, 200));
        continue;
      }
      row_place[b] = result["value"].get<double>();
    }
    RewardOutput out;
    const auto like = answers.confidence.options();
    out.row = row.to(like.device(), answers.confidence.scalar_type());
    out.valid = valid.to(like.device());
    out.metrics = {{"asked", static_cast<double>(items.size())},
                   {"failures", static_cast<double>(said.failures)},
                   {"time_outs", static_cast<double>(said.time_outs)},
                   {"crashes", static_cast<double>(said.crashes)},
                   {"starts", static_cast<double>(said.starts)}};
    out.problem = std::move(said.problem);
    return out;
  }

 private:
  static Json item_of(const RewardInput& input, int64_t b, int64_t num_answers, const Json& example) {
    const AnswerSet& set = input.answers.sets[static_cast<size_t>(b)];
    Json list = Json::array();
    for (const Answer& answer : set.answers)
      list.push_back({{"text", replace_invalid_utf8(answer.text)},
                      {"confidence", std::isfinite(answer.confidence) ? Json(answer.confidence) : Json()},
                      {"present", !answer.answer_bytes.empty()}});
    return {{"completion", replace_invalid_utf8(input.completions[static_cast<size_t>(b)])},
            {"answers", std::move(list)},
            {"format_ok", set.format_ok},
            {"num_answers", num_answers},
            {"step", input.step},
            {"example", example}};
  }

  static bool is_finite_number(const Json& value) { return value.is_number() && std::isfinite(value.get<double>()); }

  Options options_;
  mutable external::WorkerPool pool_;
};

}  // namespace

void register_external(Registry<Reward>& registry) {
  add_reward<External>(registry, "external", "what worker processes say, JSON lines over standard input and output");
}

}  // namespace plural
