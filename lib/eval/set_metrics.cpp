// SPDX-License-Identifier: Apache-2.0
#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <set>
#include <unordered_map>
#include <unordered_set>

#include "lib/core/format.h"
#include "plural/error.h"
#include "plural/evaluation.h"

namespace plural {
namespace {

constexpr double kUndefined = std::numeric_limits<double>::quiet_NaN();

double ratio(double sum, int64_t count) { return count > 0 ? sum / static_cast<double>(count) : kUndefined; }

/// Indices of a row by falling confidence, ties in order.
std::vector<size_t> ranking(const std::vector<double>& confidence) {
  std::vector<size_t> order(confidence.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return confidence[a] > confidence[b]; });
  return order;
}

/// Mean over rows of `value(row, the correct answers among its k top-ranked ones)`.
template <class Value>
double mean_of_top(std::span<const Forecasts> rows, int64_t k, const Value& value) {
  PLURAL_CHECK(k >= 1, fmt::format("k must be at least 1, got {}", k));
  double sum = 0;
  for (const Forecasts& row : rows) {
    const auto order = ranking(row.confidence);
    double hits = 0;
    for (size_t i = 0; i < order.size() && static_cast<int64_t>(i) < k; ++i) hits += row.correct[order[i]];
    sum += value(hits);
  }
  return ratio(sum, static_cast<int64_t>(rows.size()));
}

double mean_set_brier(std::span<const Forecasts> rows, bool per_answer) {
  double sum = 0;
  int64_t counted = 0;
  for (const Forecasts& row : rows) {
    if (row.confidence.empty()) continue;
    sum += brier_score(row) * (per_answer ? 1.0 : static_cast<double>(row.confidence.size()));
    ++counted;
  }
  return ratio(sum, counted);
}

}  // namespace

double pass_at_k(int64_t n, int64_t correct, int64_t k) {
  PLURAL_CHECK(n >= 0 && correct >= 0 && correct <= n && k >= 1,
               fmt::format("n = {}, correct = {}, k = {}", n, correct, k));
  if (k > n) return kUndefined;
  if (n - correct < k) return 1.0;
  double none = 1.0;  // C(n-c, k) / C(n, k) as a product that cannot overflow
  for (int64_t i = n - correct + 1; i <= n; ++i) none *= 1.0 - static_cast<double>(k) / static_cast<double>(i);
  return 1.0 - none;
}

double mean_pass_at_k(int64_t n, std::span<const int64_t> correct, int64_t k) {
  double sum = 0;
  for (int64_t c : correct) sum += pass_at_k(n, c, k);
  return ratio(sum, static_cast<int64_t>(correct.size()));
}

double ranked_pass_at_k(std::span<const Forecasts> rows, int64_t k) {
  return mean_of_top(rows, k, [](double hits) { return hits > 0 ? 1.0 : 0.0; });
}

double ranked_num_correct_at_k(std::span<const Forecasts> rows, int64_t k) {
  return mean_of_top(rows, k, [](double hits) { return hits; });
}

double set_brier_sum(std::span<const Forecasts> rows) { return mean_set_brier(rows, false); }
double set_brier_mean(std::span<const Forecasts> rows) { return mean_set_brier(rows, true); }

Forecasts pool(std::span<const Forecasts> rows) {
  Forecasts all;
  for (const Forecasts& row : rows) {
    all.confidence.insert(all.confidence.end(), row.confidence.begin(), row.confidence.end());
    all.correct.insert(all.correct.end(), row.correct.begin(), row.correct.end());
  }
  return all;
}

namespace {

/// An answer block of a row.
struct Slot {
  int64_t number = 0;  ///< 1-based, as the completion numbers it
  bool correct = false, first_hit = false, first_of_key = false;
  bool confidence_ok = false;
  double confidence = 0;
  double gold_weight = 0;  ///< of the gold answer that it is; 0 when wrong
  int64_t match = -1;
  int64_t text = -1;           ///< number of its normal form among all; -1 = not known
  double tokens = kUndefined;  ///< spent when it was written; NaN = not known
};

/// A row on the host, with what is costly to compute done once: bootstraps visit each row a thousand times.
struct SetRow {
  int64_t k = 0, gold_count = 0;
  bool format_ok = false;
  double tokens = 0;            ///< NaN = not known
  std::vector<Slot> slots;      ///< the answers, in order
  std::vector<size_t> ranking;  ///< of `slots`, by falling confidence, those without a usable one last
  double distinct_1 = kUndefined, distinct_2 = kUndefined, jaccard = kUndefined, self_bleu = kUndefined,
         vendi = kUndefined;
  KnownDistance distance{kUndefined, kUndefined};
};
using PromptRows = std::vector<SetRow>;

/// Mean of the values that are numbers.
class Mean {
 public:
  void add(double value) {
    if (std::isnan(value)) return;
    sum_ += value;
    ++count_;
  }
  double value() const { return ratio(sum_, count_); }

 private:
  double sum_ = 0;
  int64_t count_ = 0;
};

double quotient(double sum, double count) { return count > 0 ? sum / count : kUndefined; }

void measure_texts(const AnswerSet& set, SetRow* row) {
  std::vector<std::string> texts;
  for (const Slot& slot : row->slots) texts.push_back(set.answers[static_cast<size_t>(slot.number - 1)].normal);
  row->distinct_1 = distinct_n(texts, 1);
  row->distinct_2 = distinct_n(texts, 2);
  row->jaccard = mean_pairwise_jaccard(texts);
  row->self_bleu = self_bleu(texts, 2);
  row->vendi = vendi_score(jaccard_similarity(texts));
}

void measure_distance(SetRow* row) {
  std::vector<double> stated, known;
  for (const Slot& slot : row->slots) {
    if (!slot.confidence_ok || !slot.first_of_key || (slot.correct && !slot.first_hit)) continue;
    stated.push_back(slot.confidence);
    known.push_back(slot.gold_weight);
  }
  row->distance = distance_from_known(stated, known);
}

std::vector<SetRow> read_rows(const AnswerBatch& batch, const Tensor& tokens_at) {
  const AnswerBatch answers = batch.to(at::kCPU);
  const Tensor first_hit = answers.first_hit().to(at::kBool), first_of_key = answers.first_of_key();
  const Tensor confidence = answers.confidence.to(at::kDouble), gold_weight = answers.gold_weight.to(at::kDouble);
  const auto present = answers.present.accessor<bool, 2>(), hit = first_hit.accessor<bool, 2>(),
             distinct = first_of_key.accessor<bool, 2>(), confidence_ok = answers.confidence_ok.accessor<bool, 2>();
  const auto match = answers.match.accessor<int64_t, 2>();
  const auto k = answers.k.accessor<int64_t, 1>(), gold_count = answers.gold_count.accessor<int64_t, 1>(),
             length = answers.length.accessor<int64_t, 1>();
  const auto format_ok = answers.format_ok.accessor<bool, 1>();
  const Tensor spent = tokens_at.defined() ? tokens_at.to(at::kCPU, at::kDouble) : Tensor();
  const auto q = confidence.accessor<double, 2>(), weight = gold_weight.accessor<double, 2>();
  const bool has_texts = static_cast<int64_t>(answers.sets.size()) == answers.rows;
  std::unordered_map<std::string, int64_t> text_numbers;
  std::vector<SetRow> rows(static_cast<size_t>(answers.rows));
  for (int64_t b = 0; b < answers.rows; ++b) {
    SetRow& row = rows[static_cast<size_t>(b)];
    row.k = k[b];
    row.gold_count = gold_count[b];
    row.format_ok = format_ok[b];
    row.tokens = length[b] > 0 ? static_cast<double>(length[b]) : kUndefined;
    for (int64_t i = 0; i < answers.slots; ++i) {
      if (!present[b][i]) continue;
      Slot slot{.number = i + 1,
                .correct = match[b][i] >= 0,
                .first_hit = hit[b][i],
                .first_of_key = distinct[b][i],
                .confidence_ok = confidence_ok[b][i],
                .confidence = q[b][i],
                .match = match[b][i]};
      if (slot.correct) slot.gold_weight = weight[b][slot.match];
      if (has_texts) {
        const std::string& text = answers.sets[static_cast<size_t>(b)].answers[static_cast<size_t>(i)].normal;
        slot.text = text_numbers.emplace(text, static_cast<int64_t>(text_numbers.size())).first->second;
      }
      if (spent.defined()) slot.tokens = spent[b][i].item<double>();
      row.slots.push_back(slot);
    }
    std::vector<double> by_slot;
    for (const Slot& slot : row.slots) by_slot.push_back(slot.confidence_ok ? slot.confidence : -1.0);
    row.ranking = ranking(by_slot);
    if (has_texts) measure_texts(answers.sets[static_cast<size_t>(b)], &row);
    measure_distance(&row);
  }
  return rows;
}

/// The rows of each prompt, prompts in the order of their first rows.
std::vector<PromptRows> by_prompt(std::vector<SetRow> rows, std::span<const int64_t> prompt_of_row) {
  PLURAL_CHECK(prompt_of_row.empty() || prompt_of_row.size() == rows.size(),
               fmt::format("{} prompt numbers for {} rows", prompt_of_row.size(), rows.size()));
  std::vector<PromptRows> prompts;
  std::unordered_map<int64_t, size_t> place;
  for (size_t b = 0; b < rows.size(); ++b) {
    const int64_t prompt = prompt_of_row.empty() ? static_cast<int64_t>(b) : prompt_of_row[b];
    const auto [it, is_new] = place.emplace(prompt, prompts.size());
    if (is_new) prompts.emplace_back();
    prompts[it->second].push_back(std::move(rows[b]));
  }
  return prompts;
}

using Prompts = std::vector<const PromptRows*>;

template <class Visit>
void for_each_row(const Prompts& prompts, const Visit& visit) {
  for (const PromptRows* prompt : prompts)
    for (const SetRow& row : *prompt) visit(row);
}

/// The answers with a usable confidence, the numbers of their slots and of their texts; and the sets as they are.
struct StatedPoints {
  std::vector<Forecasts> sets;  ///< all answers of each row, 0 where there is no usable confidence
  Forecasts all;
  std::vector<int64_t> slot, text;
};

StatedPoints stated_points(const Prompts& prompts) {
  StatedPoints points;
  for_each_row(prompts, [&](const SetRow& row) {
    Forecasts& set = points.sets.emplace_back();
    for (const Slot& slot : row.slots) {
      const double correct = slot.correct ? 1.0 : 0.0;
      set.confidence.push_back(slot.confidence_ok ? slot.confidence : 0.0);
      set.correct.push_back(correct);
      if (!slot.confidence_ok) continue;
      points.all.confidence.push_back(slot.confidence);
      points.all.correct.push_back(correct);
      points.slot.push_back(slot.number);
      points.text.push_back(slot.text);
    }
  });
  return points;
}

std::vector<std::string> labels(const std::vector<int64_t>& numbers) {
  std::vector<std::string> names;
  names.reserve(numbers.size());
  for (const int64_t number : numbers) names.push_back(std::to_string(number));
  return names;
}

void measure_calibration(const Prompts& prompts, SetMetrics* m) {
  const StatedPoints points = stated_points(prompts);
  const Forecasts& all = points.all;
  m->answers = static_cast<int64_t>(all.confidence.size());
  m->mean_confidence = ratio(std::accumulate(all.confidence.begin(), all.confidence.end(), 0.0), m->answers);
  m->brier = brier_score(all);
  m->brier_parts = decompose_brier(all);
  m->ece = expected_calibration_error(all);
  m->ece_equal_mass = equal_mass_calibration_error(all);
  m->ece_debiased = debiased_calibration_error(all);
  m->ece_classwise = classwise_calibration_error(all, labels(points.text));
  m->auroc = auroc(all);
  m->set_brier_sum = m->answers > 0 ? set_brier_sum(points.sets) : kUndefined;
  m->set_brier_mean = m->answers > 0 ? set_brier_mean(points.sets) : kUndefined;
  m->reliability = reliability_table(all);
  for (const GroupCalibration& slot : calibration_by_group(all, labels(points.slot)))
    m->ece_by_slot[static_cast<size_t>(std::stoll(slot.group) - 1)] = slot.ece;
}

void measure_answers(const Prompts& prompts, SetMetrics* m) {
  Mean format, unanswered, coverage, any, unique, distinct, precision, recall, f1, mass, tokens;
  double stated = 0, correct = 0, hits = 0, adherent = 0, all_tokens = 0;
  for_each_row(prompts, [&](const SetRow& row) {
    const auto k = static_cast<double>(row.k), gold = static_cast<double>(row.gold_count),
               answers = static_cast<double>(row.slots.size());
    double row_correct = 0, row_hits = 0, row_unique = 0, row_mass = 0;
    for (const Slot& slot : row.slots) {
      row_correct += slot.correct;
      row_unique += slot.first_of_key;
      if (!slot.first_hit) continue;
      ++row_hits;
      row_mass += slot.gold_weight;
    }
    for (const Slot& slot : row.slots) adherent += slot.confidence_ok;
    format.add(row.format_ok);
    unanswered.add(row.slots.empty());
    coverage.add(row_hits / k);
    any.add(row_correct > 0);
    unique.add(row_unique / k);
    distinct.add(row_hits);
    precision.add(quotient(row_hits, answers));
    recall.add(quotient(row_hits, gold));
    f1.add(quotient(2 * row_hits, answers + gold));
    mass.add(gold > 0 ? row_mass : kUndefined);
    tokens.add(row.tokens);
    stated += answers, correct += row_correct, hits += row_hits, all_tokens += row.tokens;
    ++m->rows;
  });
  m->format_rate = format.value();
  m->unanswered = unanswered.value();
  m->coverage = coverage.value();
  m->any_correct = any.value();
  m->unique = unique.value();
  m->distinct_correct = distinct.value();
  m->precision = precision.value();
  m->recall = recall.value();
  m->f1 = f1.value();
  m->gold_mass = mass.value();
  m->accuracy = quotient(correct, stated);
  m->confidence_adherence = quotient(adherent, stated);
  m->tokens = std::isnan(all_tokens) ? kUndefined : tokens.value();
  m->tokens_per_answer = quotient(all_tokens, stated);
  m->tokens_per_correct = quotient(all_tokens, correct);
  m->tokens_per_distinct_correct = quotient(all_tokens, hits);
}

void measure_diversity(const Prompts& prompts, SetMetrics* m) {
  const std::pair<double SetRow::*, double SetMetrics::*> measures[] = {{&SetRow::distinct_1, &SetMetrics::distinct_1},
                                                                        {&SetRow::distinct_2, &SetMetrics::distinct_2},
                                                                        {&SetRow::jaccard, &SetMetrics::jaccard},
                                                                        {&SetRow::self_bleu, &SetMetrics::self_bleu},
                                                                        {&SetRow::vendi, &SetMetrics::vendi}};
  for (const auto& [of_row, of_all] : measures) {
    Mean mean;
    for_each_row(prompts, [&, of_row = of_row](const SetRow& row) { mean.add(row.*of_row); });
    m->*of_all = mean.value();
  }
  Mean variation, kl;
  for_each_row(prompts, [&](const SetRow& row) {
    variation.add(row.distance.total_variation);
    kl.add(row.distance.kl);
  });
  m->total_variation = variation.value();
  m->kl = kl.value();
}

/// Measures at k = 1 ... K. Only rows that were asked for at least k answers count at k.
void measure_ranks(const Prompts& prompts, SetMetrics* m) {
  for (size_t i = 0; i < m->coverage_at.size(); ++i) {
    const size_t k = i + 1;
    Mean written, ranked, pass, of_rank;
    for_each_row(prompts, [&](const SetRow& row) {
      if (row.k < static_cast<int64_t>(k)) return;
      double hits = 0;
      for (const Slot& slot : row.slots) hits += slot.first_hit && slot.number <= static_cast<int64_t>(k);
      written.add(hits / static_cast<double>(k));
      std::set<int64_t> found;
      for (size_t r = 0; r < std::min(k, row.ranking.size()); ++r)
        if (const Slot& slot = row.slots[row.ranking[r]]; slot.correct) found.insert(slot.match);
      ranked.add(static_cast<double>(found.size()) / static_cast<double>(k));
      pass.add(!found.empty());
      if (row.ranking.size() >= k) of_rank.add(row.slots[row.ranking[i]].correct);
    });
    m->coverage_at[i] = written.value();
    m->coverage_by_rank[i] = ranked.value();
    m->pass_at[i] = pass.value();
    m->accuracy_by_rank[i] = of_rank.value();
  }
}

size_t fewest_rows(const Prompts& prompts) {
  size_t fewest = prompts.empty() ? 0 : prompts.front()->size();
  for (const PromptRows* prompt : prompts) fewest = std::min(fewest, prompt->size());
  return fewest;
}

/// sample_pass_at for 1 ... `samples` completions; every prompt has that many.
void measure_samples(const Prompts& prompts, size_t samples, SetMetrics* m) {
  std::vector<Mean> pass(samples);
  for (const PromptRows* prompt : prompts) {
    const auto successes = std::count_if(prompt->begin(), prompt->end(), [](const SetRow& row) {
      return std::any_of(row.slots.begin(), row.slots.end(), [](const Slot& slot) { return slot.correct; });
    });
    for (size_t i = 0; i < samples; ++i)
      pass[i].add(pass_at_k(static_cast<int64_t>(prompt->size()), successes, static_cast<int64_t>(i + 1)));
  }
  for (const Mean& mean : pass) m->sample_pass_at.push_back(mean.value());
}

/// How many different items `draws` of n rows hold, in expectation: item i occurs in counts[i] of the n rows.
double expected_distinct(const std::unordered_map<int64_t, int64_t>& counts, int64_t n, int64_t draws) {
  double sum = 0;
  for (const auto& [item, count] : counts) sum += pass_at_k(n, count, draws);
  return sum;
}

/// The first k answers of one completion, over the rows that were asked for as many. Token counts stay plain sums: one
/// that is not known makes the mean unknown.
CoveragePoint within_completion(const Prompts& prompts, int64_t k) {
  Mean distinct, unique, recall;
  double tokens = 0;
  int64_t rows = 0;
  for_each_row(prompts, [&](const SetRow& row) {
    if (row.k < k) return;
    double hits = 0, different = 0, spent = 0;  // nothing, where later answers came first
    for (const Slot& slot : row.slots) {
      if (slot.number > k) break;
      hits += slot.first_hit, different += slot.first_of_key;
      spent = std::max(slot.tokens, spent);  // in this order it keeps a NaN
    }
    // A completion that ends before its k-th answer has spent everything.
    const bool whole = k == row.k || row.slots.empty() || row.slots.back().number < k;
    tokens += whole ? row.tokens : spent;
    ++rows;
    distinct.add(hits), unique.add(different);
    recall.add(quotient(hits, static_cast<double>(row.gold_count)));
  });
  return {k, ratio(tokens, rows), distinct.value(), unique.value(), recall.value()};
}

/// All answers of `draws` completions: the mean over all choices of them.
CoveragePoint over_completions(const Prompts& prompts, int64_t k, int64_t draws) {
  Mean distinct, unique, recall;
  double tokens = 0;
  for (const PromptRows* prompt : prompts) {
    std::unordered_map<int64_t, int64_t> hits, texts;
    double spent = 0;
    for (const SetRow& row : *prompt) {
      std::unordered_set<int64_t> of_row;  // answers with keys of their own may share a text
      for (const Slot& slot : row.slots) {
        if (slot.first_hit) ++hits[slot.match];
        if (slot.first_of_key && of_row.insert(slot.text).second) ++texts[slot.text];
      }
      spent += row.tokens;
    }
    const auto n = static_cast<int64_t>(prompt->size());
    const double found = expected_distinct(hits, n, draws);
    tokens += spent / static_cast<double>(n) * static_cast<double>(draws);
    distinct.add(found);
    unique.add(texts.contains(-1) ? kUndefined : expected_distinct(texts, n, draws));
    recall.add(quotient(found, static_cast<double>(prompt->front().gold_count)));
  }
  return {k * draws, ratio(tokens, static_cast<int64_t>(prompts.size())), distinct.value(), unique.value(),
          recall.value()};
}

std::vector<CoveragePoint> coverage_curve(const Prompts& prompts, int64_t slots) {
  std::vector<CoveragePoint> curve;
  if (prompts.empty()) return curve;
  for (int64_t k = 1; k <= slots; ++k) curve.push_back(within_completion(prompts, k));
  bool same_k = true;  // else "so many answers drawn" means nothing beyond one completion
  for_each_row(prompts, [&](const SetRow& row) { same_k = same_k && row.k == slots; });
  if (!same_k) return curve;
  for (int64_t draws = 2; draws <= static_cast<int64_t>(fewest_rows(prompts)); ++draws)
    curve.push_back(over_completions(prompts, slots, draws));
  return curve;
}

/// All but the curve; `samples`: completions that every prompt has.
SetMetrics measure(const Prompts& prompts, int64_t slots, size_t samples) {
  SetMetrics m;
  for (std::vector<double>* column :
       {&m.coverage_at, &m.coverage_by_rank, &m.pass_at, &m.accuracy_by_rank, &m.ece_by_slot})
    column->assign(static_cast<size_t>(slots), kUndefined);
  measure_answers(prompts, &m);
  measure_calibration(prompts, &m);
  measure_diversity(prompts, &m);
  measure_ranks(prompts, &m);
  measure_samples(prompts, samples, &m);
  return m;
}

Prompts pointers(const std::vector<PromptRows>& rows) {
  Prompts prompts;
  for (const PromptRows& prompt : rows) prompts.push_back(&prompt);
  return prompts;
}

}  // namespace

SetMetrics evaluate_sets(const AnswerBatch& answers, std::span<const int64_t> prompt_of_row, const Tensor& tokens_at) {
  const std::vector<PromptRows> rows = by_prompt(read_rows(answers, tokens_at), prompt_of_row);
  const Prompts prompts = pointers(rows);
  SetMetrics m = measure(prompts, answers.slots, fewest_rows(prompts));
  m.curve = coverage_curve(prompts, answers.slots);
  return m;
}

std::map<std::string, Interval> set_metric_intervals(const AnswerBatch& answers, std::span<const int64_t> prompt_of_row,
                                                     const BootstrapOptions& options) {
  const std::vector<PromptRows> rows = by_prompt(read_rows(answers, {}), prompt_of_row);
  if (rows.empty()) return {};
  const size_t samples = fewest_rows(pointers(rows));  // of all prompts, so that every replicate has the same names
  const auto statistics = [&](std::span<const int64_t> drawn) {
    Prompts prompts;
    for (const int64_t prompt : drawn) prompts.push_back(&rows[static_cast<size_t>(prompt)]);
    return to_metric_map(measure(prompts, answers.slots, samples));
  };
  return bootstrap_intervals(static_cast<int64_t>(rows.size()), statistics, options);
}

std::map<std::string, double> to_metric_map(const SetMetrics& m) {
  std::map<std::string, double> map = {{"rows", static_cast<double>(m.rows)},
                                       {"answers", static_cast<double>(m.answers)},
                                       {"format_rate", m.format_rate},
                                       {"unanswered", m.unanswered},
                                       {"coverage", m.coverage},
                                       {"any_correct", m.any_correct},
                                       {"unique", m.unique},
                                       {"distinct_correct", m.distinct_correct},
                                       {"precision", m.precision},
                                       {"recall", m.recall},
                                       {"f1", m.f1},
                                       {"gold_mass", m.gold_mass},
                                       {"accuracy", m.accuracy},
                                       {"confidence_adherence", m.confidence_adherence},
                                       {"mean_confidence", m.mean_confidence},
                                       {"brier", m.brier},
                                       {"brier_reliability", m.brier_parts.reliability},
                                       {"brier_resolution", m.brier_parts.resolution},
                                       {"brier_uncertainty", m.brier_parts.uncertainty},
                                       {"brier_within_bins", m.brier_parts.within_bins},
                                       {"ece", m.ece},
                                       {"ece_equal_mass", m.ece_equal_mass},
                                       {"ece_debiased", m.ece_debiased},
                                       {"ece_classwise", m.ece_classwise},
                                       {"auroc", m.auroc},
                                       {"set_brier_sum", m.set_brier_sum},
                                       {"set_brier_mean", m.set_brier_mean},
                                       {"total_variation", m.total_variation},
                                       {"kl", m.kl},
                                       {"distinct_1", m.distinct_1},
                                       {"distinct_2", m.distinct_2},
                                       {"jaccard", m.jaccard},
                                       {"self_bleu", m.self_bleu},
                                       {"vendi", m.vendi},
                                       {"tokens", m.tokens},
                                       {"tokens_per_answer", m.tokens_per_answer},
                                       {"tokens_per_correct", m.tokens_per_correct},
                                       {"tokens_per_distinct_correct", m.tokens_per_distinct_correct}};
  for (size_t i = 0; i < m.coverage_at.size(); ++i) {
    map[fmt::format("coverage@{}", i + 1)] = m.coverage_at[i];
    map[fmt::format("coverage@rank{}", i + 1)] = m.coverage_by_rank[i];
    map[fmt::format("pass@{}", i + 1)] = m.pass_at[i];
    map[fmt::format("accuracy@rank{}", i + 1)] = m.accuracy_by_rank[i];
    map[fmt::format("ece@slot{}", i + 1)] = m.ece_by_slot[i];
  }
  for (size_t i = 0; i < m.sample_pass_at.size(); ++i) map[fmt::format("sample_pass@{}", i + 1)] = m.sample_pass_at[i];
  return map;
}

std::vector<std::string> set_metric_names(int64_t k, int64_t samples_per_prompt) {
  PLURAL_CHECK(k >= 1 && samples_per_prompt >= 1,
               fmt::format("at least 1 answer and 1 completion, got {} and {}", k, samples_per_prompt));
  std::vector<std::string> names;
  for (const auto& [name, value] : to_metric_map(measure({}, k, static_cast<size_t>(samples_per_prompt))))
    names.push_back(name);
  return names;
}

int better_direction(std::string_view metric) {
  for (const std::string_view counted : {"rows", "answers", "mean_confidence", "brier_uncertainty", "brier_within_bins",
                                         "forced_answers", "forced_confidences"})
    if (metric == counted) return 0;
  if (metric == "brier_resolution") return 1;
  for (const std::string_view loss : {"brier", "ece", "set_brier", "total_variation", "kl", "jaccard", "self_bleu",
                                      "tokens", "unanswered", "completion_characters"})
    if (metric.starts_with(loss)) return -1;
  return 1;
}

}  // namespace plural
