// SPDX-License-Identifier: Apache-2.0
// Rewards -> advantages. Pure functions of tensors.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "plural/answers.h"
#include "plural/registry.h"
#include "plural/tensor.h"

namespace plural {

/// f(A_keep): what the slots of `keep` ([B, K] bool) of every row earn together, [B]. Only differences between two sets
/// of slots mean something: whatever a completion is paid as a whole may be in every value or in none.
using SubsetScore = std::function<Tensor(const Tensor& keep)>;

/// What an estimator may look at. Every estimator needs `total` (or says what it reads instead); the other tensors may
/// be undefined, and an estimator that needs one throws CheckError naming it. float32, or float64 where the last digits
/// count: the advantages come out in the dtype of `total`.
struct AdvantageInput {
  Tensor total;                          ///< [B], group-major: what each row is paid
  Tensor per_answer;                     ///< [B, K] or undefined: the part of `total` that each answer earned
  const AnswerBatch* answers = nullptr;  ///< for span credit, lengths, correctness and modes; may be null
  int64_t samples_per_prompt = 1;        ///< G

  Tensor part;         ///< [B, D] every paid reward by itself, without its weight; 0 where it does not apply
  Tensor part_valid;   ///< [B, D] bool, undefined = all apply
  Tensor part_weight;  ///< [D] weights: total = sum over the rewards that apply of weight x part
  Tensor vector;       ///< [B, K, C] weighted values of each answer under the C rewards that judge answers one by one

  Tensor greedy_total;  ///< [P] what the greedy completion of each prompt is paid; see needs_greedy()
  Tensor correct;       ///< [B] bool; undefined = a row is correct when any of its answers is
  Tensor mode;          ///< [B] int64; undefined = completion_modes(answers)
  Tensor length;        ///< [B] completion tokens; undefined = answers->length

  Tensor sampler_log_prob;  ///< [B] nats: ln p of each completion, end token included, by the policy that sampled it
  Tensor log_prob;          ///< [B] nats: ln p of each completion by the policy as it is; see corrects_off_policy()
  Tensor value;         ///< [M] the critic's value at every completion token, rows after one another; see needs_value()
  Tensor token_reward;  ///< [M] the parts of `total` that are paid at their tokens; undefined = all at a row's last one

  SubsetScore score_subset;       ///< of the whole stack; may be empty
  SubsetScore score_reading;      ///< of the rewards whose parts depend on confidences; empty = score_confidences
  SubsetScore score_confidences;  ///< of the rewards that judge confidences alone; empty = there are none
};

struct AdvantageOutput {
  Tensor row;  ///< [B]: the advantage of a row as a whole
  /// [sum of lengths], rows after one another: the advantage of every completion token. Undefined = its row's.
  Tensor token{};
  Tensor returns{};  ///< [sum of lengths]: what a critic is trained towards; undefined unless needs_value()
};

/// Credit for every row, or for every token of it. An all-equal group gets exactly 0 unless the estimator says
/// otherwise.
class AdvantageEstimator {
 public:
  virtual ~AdvantageEstimator() = default;
  virtual std::string name() const = 0;
  virtual AdvantageOutput estimate(const AdvantageInput& input) const = 0;
  /// The tokens of one row may get different advantages; an objective that takes one a row refuses such an estimator.
  virtual bool per_token() const { return false; }
  /// Reads `greedy_total`: the trainer decodes every prompt once more, greedily.
  virtual bool needs_greedy() const { return false; }
  /// Reads `log_prob` and weighs the completions of an older policy itself: the trainer evaluates all of them once
  /// more, without gradient, and an objective that weighs them too (`importance`) is refused.
  virtual bool corrects_off_policy() const { return false; }
  /// A group whose rows are all paid the same may get advantages other than 0. Dynamic sampling then keeps the groups
  /// that do, in place of those whose rewards differ.
  virtual bool credits_equal_rewards() const { return false; }
  /// Reads `value` and fills in `returns`: the trainer needs a critic, and has no use for one otherwise.
  virtual bool needs_value() const { return false; }
  /// Throws InputError when G samples of K answers cannot work.
  virtual void check_sizes(int64_t samples_per_prompt, int64_t num_answers) const {}
};

/// The bundled estimators, one file each (docs/advantages.md). A group counts as all-equal when its rewards differ by
/// no more than float32 rounding: 1e-6 x max(1, |largest|).
Registry<AdvantageEstimator> builtin_advantages();

/// [B] int64: rows of one group with equal numbers gave the same set of answers (gold answers by their index, others by
/// their normal form, order and repetition aside); -1 = no answer could be read. Host work.
Tensor completion_modes(const AnswerBatch& answers, int64_t samples_per_prompt);

/// Generalised advantage estimation (arXiv 1506.02438, eq. 16) over the tokens of rows that lie one after another:
/// delta_t = r_t + gamma V_{t+1} - V_t with V = 0 after a row's last token, A_t = sum_l (gamma lambda)^l delta_{t+l}.
struct GaeOptions {
  double gamma = 1.0;
  double lambda = 0.95;
};
struct GaeOutput {
  Tensor advantage;  ///< [M]
  Tensor returns;    ///< [M] advantage + value: what the value head is trained towards
};
/// reward, value [M] of one dtype; length [B] int64 with sum M. Host work, O(M), no gradient.
GaeOutput gae(const Tensor& reward, const Tensor& value, const Tensor& length, const GaeOptions& options);

}  // namespace plural
