// SPDX-License-Identifier: Apache-2.0
// plural-oracle: reads reward and metric cases, one JSON object a line, and writes one line each:
// {"case_id", "value"} or {"case_id", "error"}. It lets another implementation of the rules be compared with this one.
// With --math-worker COMMAND ARG... answers of the sources of mathematics are judged by that worker as well.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <cmath>
#include <iostream>
#include <map>
#include <nlohmann/json.hpp>
#include <string>

#include "lib/core/format.h"
#include "lib/eval/reference_eval.h"
#include "lib/text/normal_form.h"
#include "plural/advantage.h"
#include "plural/error.h"
#include "plural/evaluation.h"
#include "plural/reward.h"
#include "rewards/reward_support.h"
#include "rewards/schedules.h"

namespace plural {
namespace {

using Json = nlohmann::json;
using Function = Json (*)(const Json& c);

Json number(double value) { return std::isnan(value) ? Json(nullptr) : Json(value); }
Json verdict(bool value) { return value ? 1.0 : 0.0; }

ConfigNode scalar(const std::string& text) {
  ConfigNode node;
  node.kind = ConfigNode::Kind::kScalar;
  node.scalar = text;
  return node;
}

void set_option(ConfigNode& options, const std::string& key, ConfigNode value) {
  options.kind = ConfigNode::Kind::kMap;
  ConfigNode::Entry entry;
  entry.key = key;
  entry.value = std::move(value);
  options.entries.push_back(std::move(entry));
}

std::vector<std::string> gold_of(const Json& c) { return c.at("gold").get<std::vector<std::string>>(); }

Example example_of(const Json& c) {
  Example example;
  if (c.contains("source") && c["source"].is_string()) example.source = c["source"].get<std::string>();
  for (const std::string& gold : gold_of(c)) example.gold.push_back({gold, {}, 1.0});
  return example;
}

// The sources of the cases whose rule is that of mathematics.
constexpr const char* kMathSources[] = {"math", "MATH500", "bigmath", "Math-lighteval", "aftermath"};

/// Equal normal forms, until main() has been told of a worker.
std::unique_ptr<Matcher>& matcher() {
  static std::unique_ptr<Matcher> instance = make_matcher("normalised");
  return instance;
}

ConfigNode list_of(std::span<const char* const> words) {
  ConfigNode list;
  list.kind = ConfigNode::Kind::kList;
  for (const char* word : words) list.items.push_back(scalar(word));
  return list;
}

std::unique_ptr<Matcher> make_math_matcher(std::span<const char* const> command) {
  ConfigNode options;
  set_option(options, "command", list_of(command));
  set_option(options, "sources", list_of(kMathSources));
  set_option(options, "fallback", scalar("normalised"));
  set_option(options, "workers", scalar("1"));
  return make_matcher("external", options);
}

/// Whether `text` is one of the case's gold answers.
bool is_gold(const Json& c, std::string_view text) {
  Answer answer;
  answer.text = std::string(text);
  answer.normal = normal_form(text);
  return matcher()->match(answer, example_of(c)) >= 0;
}

bool starts_legacy(const AnswerFormat& format) { return format.name().starts_with("ta") || format.name() == "tbac"; }

int64_t answers_asked(const Json& c) {
  const Json& k = c.at("num_candidates");
  if (!k.is_number_integer() || k.get<int64_t>() < 1)
    throw InputError("num_candidates must be an integer of at least 1");
  return k.get<int64_t>();
}

/// The batch of one row that a reward sees, with everything it refers to.
struct Row {
  explicit Row(const Json& c, int64_t k)
      : format(make_answer_format(c.at("format_pattern").get<std::string>())),
        example(example_of(c)),
        text(1, c.at("completion").get<std::string>()) {
    const CompletionView view{&example, text[0], {}, k};
    answers = build_answer_batch({&view, 1}, *format, *matcher(), nullptr, at::kCPU, at::kDouble);
  }
  double score(const std::string& name, const ConfigNode& options) const {
    const Example* const examples[] = {&example};
    const RewardInput input{answers, examples, text, 1, 0};
    return builtin_rewards().make(name, options)->score(input).row.item<double>();
  }

  std::unique_ptr<AnswerFormat> format;
  Example example;
  std::vector<std::string> text;
  AnswerBatch answers;
};

Json reward(const Json& c) {
  const auto name = c.at("function").get<std::string>();
  const auto format = make_answer_format(c.at("format_pattern").get<std::string>());
  const bool reads_k = name != "mean_confidence" && name != "confidence_one_or_zero" &&
                       !(starts_legacy(*format) && (name == "format" || name == "accuracy"));
  ConfigNode options;
  if (name == "accuracy") {
    if (c.value("more_than_one_correctness_pt", false))
      set_option(options, "more_than_one_correctness_point", scalar("true"));
    if (c.contains("enforce_uniqueness") && c["enforce_uniqueness"].is_boolean())
      set_option(options, "enforce_uniqueness", scalar(c["enforce_uniqueness"].get<bool>() ? "always" : "never"));
  }
  const bool sum_off = c.contains("confidences_sum_to_less_than_1") && c["confidences_sum_to_less_than_1"] == false;
  if (sum_off && (name == "brier" || name == "response_constraint" || name == "combined_format_and_constraint"))
    set_option(options, "sum_at_most_one", scalar("false"));
  const Json& k = c.at("num_candidates");
  const int64_t asked = reads_k ? answers_asked(c)
                                : (k.is_number_integer() ? std::max<int64_t>(1, k.get<int64_t>()) : 1);
  const Row row(c, asked);
  double value = row.score(name, options);
  // With K > 1 the reference wants a set of numbered pairs even in the formats of section 2 that it calls legacy.
  if (starts_legacy(*format) && asked > 1 && (name == "brier" || name.ends_with("constraint"))) {
    Json as_set = c;
    as_set["format_pattern"] = "multi_answer_no_analysis";
    ConfigNode sum;
    if (sum_off) set_option(sum, "sum_at_most_one", scalar("false"));
    const double kept = Row(as_set, asked).score("response_constraint", sum);
    value = name == "response_constraint"
                ? kept
                : kept * row.score(name == "brier" ? "brier" : "format", name == "brier" ? options : ConfigNode{});
  }
  // Formats without a set divide by the number that was asked for, whatever it is.
  if (name == "accuracy" && starts_legacy(*format) && c.value("more_than_one_correctness_pt", false))
    value = k.is_number_integer() && k.get<int64_t>() != 0 ? value / k.get<double>() : 0.0;
  return value;
}

Json ranked(const Json& c) {
  const auto name = c.at("function").get<std::string>();
  const Row row(c, answers_asked(c));
  const int64_t i = name == "pass_at_1" ? 1 : name == "pass_at_3" ? 3 : c.at("i").get<int64_t>();
  if (i < 1) throw InputError("i must be at least 1");
  if (row.format->single() && !starts_legacy(*row.format) && i != 1)
    throw InputError("a format of one answer has only i = 1");
  return (name == "num_correct_at_i" ? rewards::num_correct_at(row.answers, i) : rewards::pass_at(row.answers, i))
      .item<double>();
}

Json entropy(const Json& c) {
  const auto tensor = [](const Json& rows) {
    const auto values = rows.at(0).get<std::vector<double>>();
    return at::tensor(values, at::kDouble).unsqueeze(0);
  };
  EntropyRewardOptions options;
  options.vocab_size = c.value("vocab_size", options.vocab_size);
  options.decay_start_step = c.value("entropy_decay_start_step", options.decay_start_step);
  options.decay_final_factor = c.value("entropy_decay_final_factor", options.decay_final_factor);
  const auto optional = [&](const char* key) -> std::optional<int64_t> {
    if (!c.contains(key) || !c[key].is_number()) return std::nullopt;
    return c[key].get<int64_t>();
  };
  const bool masked = c.contains("completion_mask") && c["completion_mask"].is_array();
  return entropy_reward(tensor(c.at("precomputed_entropies")), masked ? tensor(c["completion_mask"]) : Tensor(),
                        options, optional("global_step"), optional("max_steps"))
      .item<double>();
}

Json safe_float(const Json& c) {
  const auto value = parse_number(c.at("completion").get<std::string>());
  return value ? Json(*value) : Json(nullptr);
}

Json exact_match(const Json& c) {
  const std::vector<std::string> gold = gold_of(c);
  return verdict(matches_any(c.at("completion").get<std::string>(), std::span(gold).first(1)));
}

Json is_correct(const Json& c) { return verdict(is_gold(c, c.at("completion").get<std::string>())); }

Json accuracy_flat_gold(const Json& c) {
  Json own = c;
  own["function"] = "accuracy";
  return reward(own);
}

// ---- evaluation of one completion -------------------------------------------------------------------

bool is_set(const std::string& format) { return format.starts_with("multi_answer"); }
bool ranks_by_confidence(const std::string& format) {
  return format != "multi_answer_rlvr" && format != "multi_answer_rlvr_short";
}

std::string lower_format(const Json& c) {
  auto format = c.at("format_pattern").get<std::string>();
  for (char& ch : format) ch = static_cast<char>(std::tolower(static_cast<unsigned char>(ch)));
  return format;
}

int64_t asked_or_all(const Json& c) {
  return c.contains("num_candidates") && c["num_candidates"].is_number_integer() ? c["num_candidates"].get<int64_t>()
                                                                                 : 0;
}

/// The evaluation's rule in the cases: equal normal forms for every source, those of mathematics too.
bool is_gold_text(const Json& c, std::string_view text) { return matches_any(text, gold_of(c)); }

Json eval_pass(const Json& c, int64_t k) {
  const auto candidates = read_numbered(c.at("completion").get<std::string>(), asked_or_all(c));
  if (!candidates) return 0.0;
  const Forecasts row = rank_candidates(*candidates, ranks_by_confidence(lower_format(c)),
                                        [&](std::string_view text) { return is_gold_text(c, text); });
  return ranked_pass_at_k({&row, 1}, k);
}
Json eval_pass_at_1(const Json& c) { return eval_pass(c, 1); }
Json eval_pass_at_2(const Json& c) { return eval_pass(c, 2); }
Json eval_pass_at_3(const Json& c) { return eval_pass(c, 3); }

Json eval_set_brier(const Json& c) {
  const auto candidates = read_numbered(c.at("completion").get<std::string>(), asked_or_all(c));
  if (!candidates) return nullptr;
  const Forecasts row = rank_candidates(*candidates, false,
                                        [&](std::string_view text) { return is_gold_text(c, text); });
  return number(set_brier_sum({&row, 1}));
}

Json eval_single_correct(const Json& c) {
  const auto answer = read_plain_answer(c.at("completion").get<std::string>());
  return verdict(answer && is_gold_text(c, *answer));
}

Json eval_confidence_level(const Json& c) {
  return read_plain_confidence(c.at("completion").get<std::string>()).value_or(0.0);
}
Json eval_confidence_format(const Json& c) {
  return verdict(read_plain_confidence(c.at("completion").get<std::string>()).has_value());
}

// ---- tables -----------------------------------------------------------------------------------------

Forecasts points_of(const Json& table) {
  return {table.at("confidence").get<std::vector<double>>(), table.at("correct").get<std::vector<double>>()};
}

std::vector<Forecasts> rows_of(const Json& c) {
  std::vector<Forecasts> rows;
  for (const Json& row : c.at("rows")) rows.push_back(points_of(row));
  return rows;
}

int64_t bins_of(const Json& c) { return c.value("n_bins", int64_t{10}); }
Json ece(const Json& c) { return number(expected_calibration_error(points_of(c), bins_of(c))); }
Json auroc_of(const Json& c) { return number(auroc(points_of(c))); }
Json brier_of(const Json& c) { return number(brier_score(points_of(c))); }
Json pass_at_k_of(const Json& c) {
  const auto correct = c.at("num_correct").get<std::vector<int64_t>>();
  return number(mean_pass_at_k(c.at("n").get<int64_t>(), correct, c.at("k").get<int64_t>()));
}
Json ranked_pass(const Json& c) { return number(ranked_pass_at_k(rows_of(c), c.at("k").get<int64_t>())); }
Json ranked_count(const Json& c) { return number(ranked_num_correct_at_k(rows_of(c), c.at("k").get<int64_t>())); }
Json set_brier_sum_of(const Json& c) { return number(set_brier_sum(rows_of(c))); }
Json set_brier_mean_of(const Json& c) { return number(set_brier_mean(rows_of(c))); }
Json set_ece(const Json& c) { return number(expected_calibration_error(pool(rows_of(c)), bins_of(c))); }
Json set_auroc(const Json& c) { return number(auroc(pool(rows_of(c)))); }

Json eval_dataset(const Json& c) {
  const std::string format = lower_format(c);
  std::vector<Forecasts> ranked_rows;
  Forecasts points;
  for (const Json& r : c.at("rows")) {
    const auto completion = r.at("completion").get<std::string>();
    const std::vector<std::string> gold = gold_of(r);
    if (is_set(format)) {
      const auto candidates = read_numbered(completion, asked_or_all(c));
      // The numbers of these cases were made with the reference's normal form.
      const auto correct = [&](std::string_view text) { return matches_any(text, gold, reference_normal_form); };
      ranked_rows.push_back(candidates ? rank_candidates(*candidates, ranks_by_confidence(format), correct)
                                       : Forecasts{});
    } else {
      const auto answer = read_plain_answer(completion);
      points.confidence.push_back(read_plain_confidence(completion).value_or(0.0));
      points.correct.push_back(answer && matches_any(*answer, gold, reference_normal_form) ? 1.0 : 0.0);
    }
  }
  Json result;
  if (!is_set(format)) {
    double right = 0;
    for (double y : points.correct) right += y;
    result["accuracy"] = result["pass@1"] = right / static_cast<double>(points.correct.size());
    result["brier_score"] = number(brier_score(points));
    result["ece"] = number(expected_calibration_error(points));
    result["auroc"] = number(auroc(points));
    return result;
  }
  for (int64_t k : {1, 2, 3}) result[fmt::format("pass@{}", k)] = number(ranked_pass_at_k(ranked_rows, k));
  result["accuracy"] = result["pass@1"];
  if (ranks_by_confidence(format)) {
    result["set_brier"] = number(set_brier_sum(ranked_rows));
    result["ece"] = number(expected_calibration_error(pool(ranked_rows)));
    result["auroc"] = number(auroc(pool(ranked_rows)));
  }
  return result;
}

// ---- trainer ----------------------------------------------------------------------------------------

Json list(const Tensor& values) {
  const Tensor plain = values.to(at::kDouble).contiguous();
  return std::vector<double>(plain.data_ptr<double>(), plain.data_ptr<double>() + plain.numel());
}

Json combine(const Json& c) {
  std::vector<double> values;
  for (const Json& row : c.at("rewards_per_func"))
    for (const Json& value : row) values.push_back(value.is_null() ? std::nan("") : value.get<double>());
  const auto weights = c.at("weights").get<std::vector<double>>();
  return list(combine_rewards(at::tensor(values, at::kDouble).view({-1, static_cast<int64_t>(weights.size())}),
                              at::tensor(weights, at::kDouble)));
}

Json advantages(const Json& c) {
  ConfigNode options;
  set_option(options, "scale", scalar(c.at("scale_rewards").get<std::string>()));
  AdvantageInput input;
  input.total = at::tensor(c.at("rewards").get<std::vector<double>>(), at::kDouble).to(at::kFloat);
  input.samples_per_prompt = c.at("num_generations").get<int64_t>();
  return list(builtin_advantages().make("grpo", options)->estimate(input).row);
}

Json adaptive_brier_weight(const Json& c) {
  return adaptive_weight(c.at("weight_start").get<double>(), c.at("weight_end").get<double>(),
                         c.at("step").get<int64_t>(), c.at("ramp_start_step").get<int64_t>(),
                         c.at("args_max_steps").get<int64_t>(), c.at("state_max_steps").get<int64_t>());
}

Json adaptive_beta(const Json& c) {
  AdaptiveBeta beta(c.at("beta").get<double>(), c.at("target_kl").get<double>(), c.at("lr").get<double>());
  Json values = Json::array();
  for (const Json& step : c.at("kl_per_step")) values.push_back(beta.step(step.get<std::vector<double>>()));
  return values;
}

const std::map<std::string, Function>& functions() {
  static const std::map<std::string, Function> table = {{"format", reward},
                                                        {"accuracy", reward},
                                                        {"brier", reward},
                                                        {"uniqueness", reward},
                                                        {"response_constraint", reward},
                                                        {"combined_format_and_constraint", reward},
                                                        {"mean_confidence", reward},
                                                        {"confidence_one_or_zero", reward},
                                                        {"pass_at_1", ranked},
                                                        {"pass_at_3", ranked},
                                                        {"pass_at_i", ranked},
                                                        {"num_correct_at_i", ranked},
                                                        {"entropy", entropy},
                                                        {"safe_float", safe_float},
                                                        {"exact_match", exact_match},
                                                        {"is_correct", is_correct},
                                                        {"accuracy_flat_gold", accuracy_flat_gold},
                                                        {"eval_pass_at_1", eval_pass_at_1},
                                                        {"eval_pass_at_2", eval_pass_at_2},
                                                        {"eval_pass_at_3", eval_pass_at_3},
                                                        {"eval_set_brier", eval_set_brier},
                                                        {"eval_single_correct", eval_single_correct},
                                                        {"eval_confidence_level", eval_confidence_level},
                                                        {"eval_confidence_format", eval_confidence_format},
                                                        {"ece", ece},
                                                        {"auroc", auroc_of},
                                                        {"brier_score", brier_of},
                                                        {"pass_at_k", pass_at_k_of},
                                                        {"ranked_pass_at_k", ranked_pass},
                                                        {"ranked_num_correct_at_k", ranked_count},
                                                        {"set_brier_sum", set_brier_sum_of},
                                                        {"set_brier_mean", set_brier_mean_of},
                                                        {"set_ece", set_ece},
                                                        {"set_auroc", set_auroc},
                                                        {"eval_dataset", eval_dataset},
                                                        {"combine_rewards", combine},
                                                        {"advantages", advantages},
                                                        {"adaptive_brier_weight", adaptive_brier_weight},
                                                        {"adaptive_beta", adaptive_beta}};
  return table;
}

Json value_of(const Json& c) {
  std::string name = c.at("function").get<std::string>();
  if (name == "brier" && c.contains("confidence")) name = "brier_score";  // the metric shares the reward's name
  const auto found = functions().find(name);
  if (found == functions().end()) throw InputError(fmt::format("unknown function '{}'", name));
  return found->second(c);
}

int answer_all(std::istream& in, std::ostream& out) {
  int exit_code = 0;
  for (std::string line; std::getline(in, line);) {
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    Json reply;
    try {
      const Json c = Json::parse(line);
      reply["case_id"] = c.value("case_id", "");
      reply["value"] = value_of(c);
    } catch (const std::exception& error) {
      if (!reply.contains("case_id")) exit_code = 2;  // not even a case
      reply.erase("value");
      reply["error"] = error.what();
    }
    out << reply.dump(-1, ' ', true, Json::error_handler_t::replace) << '\n';
  }
  out.flush();
  return out ? exit_code : 1;
}

}  // namespace
}  // namespace plural

int main(int argc, char** argv) {
  const std::string option = argc > 1 ? argv[1] : "";
  if (argc > 1 && !(option == "--math-worker" && argc > 2)) {
    const bool help = option == "--help";
    (help ? std::cout : std::cerr) << "plural-oracle [--math-worker COMMAND ARG...] < CASES.jsonl > VALUES.jsonl\n"
                                      "Reads reward and metric cases, one JSON object a line, and writes "
                                      "{\"case_id\", \"value\"} or {\"case_id\", \"error\"} lines.\n";
    return help ? 0 : 2;
  }
  std::ios::sync_with_stdio(false);
  at::set_num_threads(1);
  if (argc > 2) plural::matcher() = plural::make_math_matcher({argv + 2, static_cast<size_t>(argc - 2)});
  return plural::answer_all(std::cin, std::cout);
}
