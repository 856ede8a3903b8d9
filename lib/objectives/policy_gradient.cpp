// SPDX-License-Identifier: Apache-2.0
#include <ATen/ATen.h>

#include "lib/core/format.h"
#include "lib/objectives/parts.h"
#include "plural/error.h"

namespace plural {

namespace {

void check(const ObjectiveInput& input, const ObjectiveNeeds& needs) {
  check_shapes({{"log_prob", input.log_prob, "M"},
                {"old_log_prob", input.old_log_prob, "M", true},
                {"ref_log_prob", input.ref_log_prob, "M", !needs.reference},
                {"sampler_log_prob", input.sampler_log_prob, "M", !needs.sampler},
                {"entropy", input.entropy, "M", !needs.entropy},
                {"advantage", input.advantage, "M"},
                {"row", input.row, "M"},
                {"row_tokens", input.row_tokens, "rows"},
                {"counted", input.counted, "M", true}});
  const BatchCounts& c = input.counts;
  PLURAL_CHECK(c.rows > 0 && c.tokens > 0 && c.max_tokens > 0 && c.rank_tokens > 0 && c.ranks >= 1,
               "BatchCounts must be filled in from the whole optimiser batch");
}

/// The entries of the tokens that count. Taken out before any weight comes in: 0 times what a masked token made of its
/// ratio might be NaN.
class Counted {
 public:
  explicit Counted(const Tensor& counted) : kept_(counted.defined() ? counted.nonzero().squeeze(1) : Tensor()) {}
  /// x [M] or a scalar [].
  Tensor of(const Tensor& x) const { return kept_.defined() && x.dim() == 1 ? x.index_select(0, kept_) : x; }

 private:
  Tensor kept_;
};

class PolicyGradient final : public Objective {
 public:
  explicit PolicyGradient(const ObjectiveOptions& options)
      : options_(options),
        log_ratio_(find_ratio(options.ratio)),
        surrogate_(find_surrogate(options.surrogate)),
        weight_(find_aggregation(options.aggregation)),
        kl_(find_kl(options.kl)) {
    for (const auto& [key, why] : options.problems()) throw InputError(fmt::format("objective.{}: {}", key, why));
  }

  std::string name() const override {
    return fmt::format("{}/{}/{}", options_.ratio, options_.surrogate, options_.aggregation);
  }

  ObjectiveNeeds needs() const override {
    ObjectiveNeeds needs;
    needs.reference = options_.uses_reference() && options_.kl_in == "loss";
    needs.kl_in_reward = options_.uses_reference() && options_.kl_in == "reward";
    needs.sampler = options_.importance != "none";
    needs.entropy = options_.entropy_weight > 0 || options_.entropy_target > 0;
    needs.token_mask = (options_.importance != "none" && options_.importance_mode == "mask") ||
                       options_.off_policy_threshold > 0 || options_.top_entropy < 1;
    needs.drop_truncated = options_.mask_truncated;
    if (options_.ratio == "sequence")
      needs.no_token_advantages =
          "ratio 'sequence' clips a row as one, so its tokens cannot be told apart; use ratio: sequence_token";
    if (options_.surrogate == "gmpo")
      needs.no_token_advantages =
          "surrogate 'gmpo' multiplies a row's ratios before the advantage comes in, so its tokens cannot be told "
          "apart; "
          "use surrogate: ppo_clip";
    return needs;
  }

  LossTerms loss(const ObjectiveInput& input) const override {
    const ObjectiveNeeds needs = this->needs();
    check(input, needs);
    const ObjectiveWeights weights = input.weights.value_or(start_weights());
    const Tensor log_ratio = log_ratio_(input);
    const RatioTerms ratio{log_ratio, log_ratio.exp()};
    const SurrogateTerms surrogate = surrogate_(ratio, input, options_);

    const Counted counted(input.counted);
    LossTerms terms;
    Tensor token_loss = -surrogate.value;
    if (needs.sampler) token_loss = token_loss * importance_weight(input, options_);
    if (needs.reference) {
      Tensor kl = kl_(input.log_prob, input.ref_log_prob.detach());
      terms.sums["kl_ref"] = counted.of(kl.detach()).sum();
      if (options_.kl_times_ratio) kl = kl * ratio.value;
      token_loss = token_loss + weights.kl * kl;
    }
    terms.loss = (counted.of(token_loss) * counted.of(weight_(input))).sum();
    // A mean over tokens whatever the aggregation: the weight means the same in all of them.
    if (needs.entropy)
      terms.loss = terms.loss - (weights.entropy / input.counts.tokens) * counted.of(input.entropy).sum();
    add_ratio_sums(ratio.value.detach(), surrogate, input, counted, terms);
    return terms;
  }

  Tensor token_mask(const MaskInput& input) const override { return counted_tokens(input, options_); }
  ObjectiveWeights start_weights() const override { return first_weights(options_); }
  ObjectiveWeights next_weights(const ObjectiveWeights& now, const StepMeasure& seen) const override {
    return controlled_weights(now, seen, options_);
  }

 private:
  static void add_ratio_sums(const Tensor& ratio, const SurrogateTerms& surrogate, const ObjectiveInput& input,
                             const Counted& counted, LossTerms& terms) {
    const auto count = [&](const Tensor& clipped) {
      return clipped.defined() ? counted.of(clipped).sum().to(ratio.dtype()) : at::zeros({}, ratio.options());
    };
    terms.sums["ratio"] = counted.of(ratio).sum();
    terms.sums["clip_low"] = count(surrogate.clipped_low);
    terms.sums["clip_high"] = count(surrogate.clipped_high);
    terms.sums["kl_old"] = counted.of(kl_k3(old_log_prob(input), input.log_prob.detach())).sum();
  }

  ObjectiveOptions options_;
  RatioPart log_ratio_;
  SurrogatePart surrogate_;
  AggregationPart weight_;
  KlPart kl_;
};

}  // namespace

std::unique_ptr<Objective> make_policy_gradient(const ObjectiveOptions& options) {
  return std::make_unique<PolicyGradient>(options);
}

}  // namespace plural
