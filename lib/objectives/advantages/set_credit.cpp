// SPDX-License-Identifier: Apache-2.0
// Credit for each answer of a set that one completion wrote (spec/objectives.md section 6; docs/advantages.md).
//
// Tokens of answer k are judged by what is earned from there on (reward_to_go), against the same number of the other
// completions of the prompt. What stood before the answer is known when it is written, so taking it off changes no
// expectation: the gradient stays that of the whole reward, with less noise.
#include <ATen/ATen.h>

#include <bit>

#include "lib/core/format.h"
#include "lib/objectives/advantages/estimators.h"
#include "lib/objectives/advantages/groups.h"
#include "lib/objectives/advantages/spans.h"
#include "plural/error.h"

namespace plural {

namespace {

constexpr int64_t kMaxShapleyAnswers = 10;  // 2^K scorings of the batch

struct SetCreditOptions {
  std::string credit = "reward_to_go";
  double mix = 0.0;
  std::string confidence = "local";
  bool separate = false;
  std::string scale = "none";
  double std_floor = 0.0;

  template <class V>
  void fields(V& v) {
    v.field("credit", credit, one_of({"all", "reward_to_go", "loo", "prefix", "shapley"}),
            "what an answer's tokens are judged by: all = the whole reward; reward_to_go = what is earned from the "
            "answer on (unbiased); loo, prefix, shapley = what the answer adds to the others, to those before it, on "
            "average over orders (biased)");
    v.field("mix", mix, at_least(0),
            "0: an answer's tokens get its credit alone; else the set's advantage + mix x credit");
    v.field(
        "confidence", confidence, one_of({"local", "to_go", "set"}),
        "what a confidence's tokens are judged by: its own score, the scores from there on, or the whole reward (with "
        "separate: all scores)");
    v.field("separate", separate, any_value(),
            "confidence scores move confidence tokens only, everything else the other tokens only");
    v.field("scale", scale, one_of({"none", "group"}),
            "what advantages are divided by: nothing or the group's std (n - 1), confidences by that of their scores");
    v.field("std_floor", std_floor, at_least(0), "a smaller std counts as this one");
  }
};

/// Mean of value [P, G, K] over the rows j of a group that row i may look at: allowed [P, G, G, K], 0 where none.
struct OthersMean {
  Tensor mean;   // [P, G, K]
  Tensor count;  // [P, G, K]
};
OthersMean others_mean(const Tensor& value, const Tensor& allowed) {
  const Tensor other = value.unsqueeze(1).expand(allowed.sizes());
  const Tensor count = allowed.sum(2);
  const Tensor sum = at::where(allowed, other, at::zeros_like(other)).sum(2);
  return {sum / count.clamp_min(1), count};
}

/// value - mean over the other rows that `like` allows (of those that `written` has), or, where there is none, over all
/// other rows. All [P, G, K]; 0 where the difference is rounding or a row is alone.
Tensor minus_others(const Tensor& value, const Tensor& written, const Tensor& like) {
  const int64_t group = value.size(1);
  const Tensor self = at::eye(group, value.options()).to(at::kBool).view({1, group, group, 1});
  const Tensor others = self.logical_not().expand({value.size(0), group, group, value.size(2)});
  const Tensor peers = others.logical_and(written.unsqueeze(1));
  const OthersMean alike = others_mean(value, peers.logical_and(like.unsqueeze(1).eq(like.unsqueeze(2))));
  const OthersMean any = others_mean(value, peers), all = others_mean(value, others);
  const Tensor baseline = at::where(alike.count > 0, alike.mean, at::where(any.count > 0, any.mean, all.mean));
  const Tensor advantage = value - baseline;
  const Tensor equal = is_rounding(advantage, at::maximum(value.abs(), baseline.abs()));
  return advantage.masked_fill(equal.logical_or(all.count.eq(0)), 0.0);
}

/// The rewards of a batch of sets as functions of the slots that count, in float64, the empty set taken off.
class SetRewards {
 public:
  explicit SetRewards(const AdvantageInput& input)
      : input_(input),
        answers_(*input.answers),
        score_reading_(input.score_reading ? input.score_reading : input.score_confidences) {
    const Tensor none = at::zeros_like(answers_.present);
    nothing_ = score(input.score_subset, none);
    reading_nothing_ = score(score_reading_, none);
    confidence_nothing_ = score(input.score_confidences, none);
    confidence_total_ = score(input.score_confidences, at::ones_like(answers_.present));
  }
  bool judges_confidences() const { return static_cast<bool>(input_.score_confidences); }
  /// What the rows are paid, [B]; `separate`: without what their confidences are paid.
  Tensor total(bool separate) const {
    const Tensor all = input_.total.to(at::kDouble);
    return separate ? all - confidence_total_ : all;
  }
  Tensor confidence_total() const { return confidence_total_; }
  /// Earned by answers and confidences of `keep`, [B].
  Tensor earned(const Tensor& keep) const { return score(input_.score_subset, keep) - nothing_; }
  Tensor earned_by_confidences(const Tensor& keep) const {
    return score(input_.score_confidences, keep) - confidence_nothing_;
  }
  /// Without what the confidences earn.
  Tensor earned_by_answers(const Tensor& keep) const { return earned(keep) - earned_by_confidences(keep); }
  /// Known when the answers of `before.answers` and the pairs of `before.pairs` are written. A reward that reads
  /// confidences knows an answer only with its confidence. `separate`: without what the confidences earn.
  Tensor known(const Before& before, bool separate) const {
    const Tensor by_answers = earned(before.answers) - (score(score_reading_, before.answers) - reading_nothing_);
    const Tensor by_pairs = score(score_reading_, before.pairs) - reading_nothing_;
    return by_answers + by_pairs - (separate ? earned_by_confidences(before.pairs) : at::zeros_like(by_pairs));
  }
  /// [K] of [B]: what each slot's confidence is paid besides the empty set, by what it adds to the slots of lower
  /// numbers: whether an answer repeats another is a matter of the whole set. Not `earned`: where a gate is closed,
  /// this is the least value and every forecast is worth more, so that keeping to the format pays.
  std::vector<Tensor> confidences_in_turn() const {
    std::vector<Tensor> own;
    Tensor keep = at::zeros_like(answers_.present);
    Tensor without = confidence_nothing_;
    for (int64_t k = 0; k < keep.size(1); ++k) {
      keep.select(1, k).fill_(true);
      const Tensor with = score(input_.score_confidences, keep);
      own.push_back(confidence_nothing_ + with - without);
      without = with;
    }
    return own;
  }

 private:
  Tensor score(const SubsetScore& score, const Tensor& keep) const {
    if (!score) return at::zeros({answers_.rows}, input_.total.options().dtype(at::kDouble));
    const Tensor value = score(keep);
    check_shapes({{"keep", keep, "B K"}, {"score_subset(keep)", value, "B"}});
    return value.to(at::kDouble);
  }

  const AdvantageInput& input_;
  const AnswerBatch& answers_;
  SubsetScore score_reading_;
  Tensor nothing_, reading_nothing_, confidence_nothing_, confidence_total_;
};

class SetCredit final : public AdvantageEstimator {
 public:
  explicit SetCredit(SetCreditOptions options) : options_(std::move(options)) {}
  std::string name() const override { return "set_credit"; }
  bool credits_equal_rewards() const override { return true; }
  bool per_token() const override { return true; }

  void check_sizes(int64_t samples_per_prompt, int64_t num_answers) const override {
    if (options_.credit == "shapley" && num_answers > kMaxShapleyAnswers)
      throw InputError(
          fmt::format("advantage 'set_credit': shapley scores the 2^K subsets of a set: expected "
                      "num_answers <= {}, got {}; use reward_to_go",
                      kMaxShapleyAnswers, num_answers));
  }

  AdvantageOutput estimate(const AdvantageInput& input) const override {
    PLURAL_CHECK(input.answers != nullptr, "set_credit needs the answers");
    const AnswerBatch& answers = *input.answers;
    check_sizes(input.samples_per_prompt, answers.slots);
    if (!input.score_subset && options_.credit != "all")
      throw InputError(fmt::format(
          "advantage 'set_credit': credit '{}' asks what single answers earn, but no reward judges a part of a "
          "set; add one that does (coverage, brier), or set credit: all",
          options_.credit));
    const Groups groups = split_groups(input);
    const SetRewards rewards(input);
    const SpanOrder order = span_order(answers);
    const int64_t group = input.samples_per_prompt;
    const auto grouped = [&](const Tensor& x) { return x.view({-1, group, x.size(1)}); };
    const auto flat = [&](const Tensor& x) { return x.reshape({answers.rows, x.size(2)}); };

    const Tensor worth = grouped(rewards.total(options_.separate).unsqueeze(1));  // [P, G, 1]
    Tensor credit = worth.expand({-1, -1, answers.slots});
    if (options_.credit != "all") credit = grouped(answer_credit(rewards, order));
    const Tensor has_answer = grouped(present(order.answer)), has_confidence = grouped(present(order.confidence));
    const Tensor unit = divisor(worth, credit, has_answer);
    const Tensor all = at::ones_like(worth);
    const Tensor set = minus_others(worth, all.gt(0), all) / unit;

    Tensor answer = set.expand({-1, -1, answers.slots});
    if (options_.credit != "all") {
      const Tensor own = minus_others(credit, has_answer, at::zeros_like(credit)) / unit;
      answer = options_.mix > 0 ? answer + options_.mix * own : own;
    }
    Tensor confidence = set.expand({-1, -1, answers.slots});
    if (options_.separate || (options_.confidence != "set" && rewards.judges_confidences())) {
      const Tensor score = grouped(confidence_credit(rewards, order));
      // The outcomes: wrong, the repetition of a hit, a first hit.
      const Tensor outcome = answers.match.ge(0).to(at::kLong) + answers.first_hit().to(at::kLong);
      confidence = minus_others(score, has_confidence, grouped(outcome)) /
                   divisor(grouped(rewards.confidence_total().unsqueeze(1)), score, has_confidence);
    }
    const Tensor token = paint_tokens(answers, order, {set.reshape({-1}), flat(answer), flat(confidence)})
                             .to(groups.dtype);
    return {set.reshape({-1}).to(groups.dtype), token};
  }

 private:
  static Tensor present(const Tensor& order) { return order.ne(kAbsent); }

  // [P, 1, 1]: what advantages are divided by: the largest std in the group of the set's value [P, G, 1] and of what is
  // earned at each place [P, G, K]. Sets that are paid the same may still differ in what single answers earn, so the
  // std of the value alone may be 0. Places that no completion of the group has (`written`) belong to prompts that were
  // asked for more answers.
  Tensor divisor(const Tensor& value, const Tensor& earned, const Tensor& written) const {
    if (options_.scale == "none" || value.size(1) < 2) return at::ones({value.size(0), 1, 1}, value.options());
    const auto std = [](const Tensor& x) { return x.std(1, /*unbiased=*/true, /*keepdim=*/true); };
    const Tensor at_places = std(earned).masked_fill(written.any(1, /*keepdim=*/true).logical_not(), 0.0);
    return at::maximum(std(value), at_places.amax(2, true)).clamp_min(options_.std_floor) + kStdEps;
  }

  // [B, K]
  Tensor answer_credit(const SetRewards& rewards, const SpanOrder& order) const {
    const int64_t slots = order.answer.size(1);
    if (options_.credit == "shapley") return shapley(rewards, order);
    std::vector<Tensor> credit;
    for (int64_t k = 0; k < slots; ++k) {
      const Before before = written_before(order, k, /*confidence=*/false);
      if (options_.credit == "reward_to_go") {
        credit.push_back(rewards.total(options_.separate) - rewards.known(before, options_.separate));
        continue;
      }
      const Tensor with_k = options_.credit == "loo" ? at::ones_like(before.answers) : before.answers.clone();
      Tensor without_k = with_k.clone();
      with_k.select(1, k).fill_(true);
      without_k.select(1, k).fill_(false);
      credit.push_back(value(rewards, with_k) - value(rewards, without_k));
    }
    return at::stack(credit, 1);
  }

  Tensor value(const SetRewards& rewards, const Tensor& keep) const {
    return options_.separate ? rewards.earned_by_answers(keep) : rewards.earned(keep);
  }

  // phi_k = sum over S without k of |S|! (K - |S| - 1)! / K! (f(S + k) - f(S)); the weight is 1 / (K C(K - 1, |S|)).
  Tensor shapley(const SetRewards& rewards, const SpanOrder& order) const {
    const int64_t slots = order.answer.size(1), subsets = int64_t{1} << slots;
    std::vector<Tensor> values;
    for (int64_t s = 0; s < subsets; ++s) {
      Tensor keep = at::zeros_like(order.answer, at::kBool);
      for (int64_t k = 0; k < slots; ++k)
        if (s >> k & 1) keep.select(1, k).fill_(true);
      values.push_back(value(rewards, keep));
    }
    Tensor credit = at::zeros(order.answer.sizes(), values[0].options());
    for (int64_t s = 0; s < subsets; ++s)
      for (int64_t k = 0; k < slots; ++k) {
        if (s >> k & 1) continue;
        const int64_t size = std::popcount(static_cast<uint64_t>(s));
        const double weight = 1.0 / (static_cast<double>(slots) * choose(slots - 1, size));
        credit.select(1, k).add_(values[static_cast<size_t>(s | int64_t{1} << k)] - values[static_cast<size_t>(s)],
                                 weight);
      }
    return credit;
  }

  // [B, K]
  Tensor confidence_credit(const SetRewards& rewards, const SpanOrder& order) const {
    if (options_.confidence == "set") return rewards.confidence_total().unsqueeze(1).expand(order.answer.sizes());
    if (options_.confidence == "local") return at::stack(rewards.confidences_in_turn(), 1);
    std::vector<Tensor> credit;
    for (int64_t k = 0; k < order.answer.size(1); ++k)
      credit.push_back(rewards.confidence_total() -
                       rewards.earned_by_confidences(written_before(order, k, /*confidence=*/true).pairs));
    return at::stack(credit, 1);
  }

  SetCreditOptions options_;
};

}  // namespace

void add_set_credit(Registry<AdvantageEstimator>& registry) {
  add_estimator<SetCredit, SetCreditOptions>(registry, "set_credit",
                                             "each answer and confidence of a set by what it earns");
}

}  // namespace plural
