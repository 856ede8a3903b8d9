// SPDX-License-Identifier: Apache-2.0
#include <ATen/ATen.h>

#include "lib/core/format.h"
#include "lib/objectives/parts.h"
#include "plural/error.h"

namespace plural {

namespace {

void check(const ObjectiveInput& input, bool with_kl) {
  check_shapes({{"log_prob", input.log_prob, "M"},
                {"old_log_prob", input.old_log_prob, "M", true},
                {"ref_log_prob", input.ref_log_prob, "M", !with_kl},
                {"advantage", input.advantage, "M"},
                {"row", input.row, "M"},
                {"row_tokens", input.row_tokens, "rows"}});
  const BatchCounts& c = input.counts;
  PLURAL_CHECK(c.rows > 0 && c.tokens > 0 && c.max_tokens > 0 && c.rank_tokens > 0 && c.ranks >= 1,
               "BatchCounts must be filled in from the whole optimiser batch");
}

class PolicyGradient final : public Objective {
 public:
  explicit PolicyGradient(const ObjectiveOptions& options)
      : options_(options),
        ratio_(token_ratio),
        surrogate_(ppo_clip),
        weight_(find_aggregation(options.aggregation)),
        kl_(find_kl(options.kl)) {}

  std::string name() const override { return "ppo_clip/" + options_.aggregation; }
  bool needs_reference() const override { return options_.kl_weight > 0; }

  LossTerms loss(const ObjectiveInput& input) const override {
    check(input, needs_reference());
    const Tensor ratio = ratio_(input);
    Tensor token_loss = -surrogate_(ratio, input, options_);
    LossTerms terms;
    if (needs_reference()) {
      const Tensor kl = kl_(input.log_prob, input.ref_log_prob.detach());
      token_loss = token_loss + options_.kl_weight * kl;
      terms.sums["kl_ref"] = kl.detach().sum();
    }
    terms.loss = (token_loss * weight_(input)).sum();
    add_ratio_sums(ratio.detach(), input, terms);
    return terms;
  }

 private:
  void add_ratio_sums(const Tensor& ratio, const ObjectiveInput& input, LossTerms& terms) const {
    // Only where the clip takes the gradient away: the other side of each bound is not clipped.
    const Tensor low = (ratio < 1.0 - options_.clip_low).logical_and(input.advantage < 0);
    const Tensor high = (ratio > 1.0 + options_.clip_high).logical_and(input.advantage > 0);
    terms.sums["ratio"] = ratio.sum();
    terms.sums["clip_low"] = low.sum().to(ratio.dtype());
    terms.sums["clip_high"] = high.sum().to(ratio.dtype());
    const Tensor now = input.log_prob.detach();
    terms.sums["kl_old"] = kl_k3(input.old_log_prob.defined() ? input.old_log_prob : now, now).sum();
  }

  ObjectiveOptions options_;
  RatioPart ratio_;
  SurrogatePart surrogate_;
  AggregationPart weight_;
  KlPart kl_;
};

}  // namespace

std::unique_ptr<Objective> make_policy_gradient(const ObjectiveOptions& options) {
  return std::make_unique<PolicyGradient>(options);
}

}  // namespace plural
