// SPDX-License-Identifier: Apache-2.0
// Estimators on hand-made groups, and sets of answers whose tokens are known.
#pragma once

#include <string>
#include <vector>

#include "plural/advantage.h"
#include "tests/support/catch.h"
#include "tests/support/device.h"

namespace plural::testing {

inline std::vector<double> host(const Tensor& x) {
  const Tensor y = x.detach().to(at::kCPU, at::kDouble).contiguous();
  return {y.const_data_ptr<double>(), y.const_data_ptr<double>() + y.numel()};
}

inline Tensor doubles(const std::vector<double>& values) { return at::tensor(values, at::kDouble).to(test_device()); }
inline Tensor integers(const std::vector<int64_t>& values) { return at::tensor(values, at::kLong).to(test_device()); }
inline Tensor booleans(const std::vector<int64_t>& values) { return integers(values).to(at::kBool); }

inline AdvantageOutput estimate(const std::string& name, const std::string& options, const AdvantageInput& input) {
  return builtin_advantages().make(name, parse_yaml(options, "test.yaml"))->estimate(input);
}

/// Groups of `group` rows that differ in what they are paid.
inline AdvantageInput paid(const std::vector<double>& total, int64_t group) {
  AdvantageInput input;
  input.total = doubles(total);
  input.samples_per_prompt = group;
  return input;
}

inline void check_close(const std::vector<double>& got, const std::vector<double>& expected, double tolerance) {
  REQUIRE(got.size() == expected.size());
  for (size_t i = 0; i < got.size(); ++i) {
    INFO("element " << i);
    CHECK(got[i] == Approx(expected[i]).margin(tolerance).epsilon(0));
  }
}

/// Where answers and confidences of a set stand.
enum class Layout { kAnswers, kPairs, kAnswersThenConfidences };

/// B sets of K answers, match[b][k] = gold index or -1 (wrong; wrong answers of a row differ); confidence q[b][k] where
/// given. A row is a thinking token, then one token for each answer (and confidence) in the order of `layout`, then an
/// end token.
inline AnswerBatch make_sets(const std::vector<std::vector<int64_t>>& match, Layout layout = Layout::kAnswers,
                             const std::vector<std::vector<double>>& q = {}, int64_t gold = 4) {
  const auto rows = static_cast<int64_t>(match.size()), slots = static_cast<int64_t>(match.at(0).size());
  AnswerBatch answers;
  answers.rows = rows, answers.slots = slots;
  std::vector<int64_t> flat;
  std::vector<double> stated;
  for (size_t b = 0; b < match.size(); ++b)
    for (size_t k = 0; k < match[b].size(); ++k) {
      flat.push_back(match[b][k]);
      stated.push_back(q.empty() ? 0.0 : q[b][k]);
    }
  const bool pairs = layout == Layout::kPairs, confidences = layout != Layout::kAnswers;
  answers.match = integers(flat).view({rows, slots});
  answers.present = at::ones_like(answers.match, at::kBool);
  // Equal keys for equal gold answers; wrong ones are told apart by their slot.
  const Tensor slot = at::arange(slots, answers.match.options()).unsqueeze(0).expand({rows, slots});
  answers.key = at::where(answers.match.ge(0), answers.match, slot + gold);
  answers.confidence = doubles(stated).view({rows, slots});
  answers.confidence_ok = answers.confidence_stated = at::full_like(answers.present, confidences);
  answers.format_ok = answers.extracted = answers.paired = at::ones({rows}, answers.present.options());
  answers.k = at::full({rows}, slots, answers.match.options());
  answers.gold_count = at::full({rows}, gold, answers.match.options());
  answers.gold_weight = at::full({rows, gold}, 1.0 / static_cast<double>(gold), answers.confidence.options());
  const Tensor answer_begin = 1 + (pairs ? slot * 2 : slot);
  const Tensor confidence_begin = pairs ? answer_begin + 1 : answer_begin + slots;
  answers.answer_span = at::stack({answer_begin, answer_begin + 1}, 2);
  answers.confidence_span = at::stack({confidence_begin, confidence_begin + 1}, 2);
  if (!confidences) answers.confidence_span = at::zeros_like(answers.confidence_span);
  answers.length = at::full({rows}, 2 + slots * (confidences ? 2 : 1), answers.match.options());
  return answers;
}

/// Weighted coverage of the kept slots, written out row by row: every gold answer counts once.
inline Tensor weighted_coverage(const AnswerBatch& answers, const std::vector<double>& weight, const Tensor& keep) {
  const Tensor match = answers.match.to(at::kCPU).contiguous(), kept = keep.to(at::kCPU).contiguous();
  const auto gold = match.accessor<int64_t, 2>();
  const auto counts = kept.accessor<bool, 2>();
  std::vector<double> values;
  for (int64_t b = 0; b < answers.rows; ++b) {
    std::vector<bool> hit(weight.size(), false);
    double sum = 0;
    for (int64_t k = 0; k < answers.slots; ++k) {
      if (!counts[b][k] || gold[b][k] < 0 || hit[static_cast<size_t>(gold[b][k])]) continue;
      hit[static_cast<size_t>(gold[b][k])] = true;
      sum += weight[static_cast<size_t>(gold[b][k])];
    }
    values.push_back(sum);
  }
  return doubles(values);
}

/// What each slot is, written out: 1 = it hits a gold answer; `repeats_wrong`: and no kept slot before it does. [B, K]
inline Tensor kept_outcome(const AnswerBatch& answers, const Tensor& keep, bool repeats_wrong) {
  const Tensor match = answers.match.to(at::kCPU).contiguous(), kept = keep.to(at::kCPU).contiguous();
  const auto gold = match.accessor<int64_t, 2>();
  const auto counts = kept.accessor<bool, 2>();
  std::vector<double> outcome;
  for (int64_t b = 0; b < answers.rows; ++b)
    for (int64_t k = 0; k < answers.slots; ++k) {
      bool repeated = false;
      for (int64_t l = 0; l < k; ++l) repeated = repeated || (counts[b][l] && gold[b][l] == gold[b][k]);
      outcome.push_back(gold[b][k] >= 0 && !(repeats_wrong && repeated) ? 1.0 : 0.0);
    }
  return doubles(outcome).view({answers.rows, answers.slots});
}

/// 1 - mean over the kept slots of (q - z)^2 out of K.
inline Tensor kept_brier(const AnswerBatch& answers, const Tensor& keep, bool repeats_wrong = false) {
  const Tensor error = (answers.confidence - kept_outcome(answers, keep, repeats_wrong)).square() * keep;
  return 1 - error.sum(1) / answers.k;
}

}  // namespace plural::testing
