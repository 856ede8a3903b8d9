// SPDX-License-Identifier: Apache-2.0
#include <cmath>

#include "lib/core/format.h"
#include "rewards/forecast.h"

namespace plural {
namespace {

/// Correctness and confidence in one score for each answer (arXiv 2607.04332): f(q) if right, g(q) if wrong, such that
/// the best confidence is the probability of being right and an honest try is never worth less than a sure miss.
class TruthfulScore final : public ForecastReward {
 public:
  struct Options : ForecastOptions {
    std::string scheme = "brier";
    double k = 1.0;
    double clip = 1.0 / 203;
    template <class V>
    void fields(V& v) {
      ForecastOptions::fields(v);
      v.field("scheme", scheme, one_of({"brier", "log", "brier_log", "overconfidence", "underconfidence"}),
              "the pair of functions (docs/rewards/truthful_score.md)");
      v.field("k", k, above(0),
              "its parameter; brier pays for deliberate misses above 1, log above 1 / ln(1/clip - 1)");
      v.field("clip", clip, between(1e-6, 0.5),
              "log: confidences count as at least this and at most 1 - this; brier_log: at most 1 - this");
    }
  };

  explicit TruthfulScore(Options options)
      : ForecastReward(options), scheme_(std::move(options.scheme)), k_(options.k), clip_(options.clip) {}
  std::string name() const override { return "truthful_score"; }
  bool judges_confidences() const override { return false; }  // the answers' correctness as well
  bool reads_confidences() const override { return true; }
  std::string formula() const override {
    return fmt::format("mean of {}{}", scheme_ == "brier_log" ? scheme_ : fmt::format("{}-{}", scheme_, k_),
                       options().gates());
  }

 protected:
  Tensor right(const Tensor& q) const override {
    if (scheme_ == "brier") return 1 - k_ * (1 - q).square();
    if (scheme_ == "log") return 1 + k_ * log(q);
    if (scheme_ == "brier_log") return q.clamp_max(1 - clip_);  // as in g: else 1 would be worth more than 1 - clip
    if (scheme_ == "overconfidence") return ((k_ + 1) * (k_ * q).log1p() - k_ * q) / over_scale();
    return (k_ * q + (1 - k_ / (1 + k_) * q).log()) / under_scale();
  }

  Tensor wrong(const Tensor& q) const override {
    if (scheme_ == "brier") return -k_ * q.square();
    if (scheme_ == "log") return k_ * log(1 - q);
    if (scheme_ == "brier_log") return q.clamp_max(1 - clip_) + (1 - q).clamp_min(clip_).log();
    if (scheme_ == "overconfidence") return ((k_ * q).log1p() - k_ * q) / over_scale();
    return (k_ * q + (k_ + 1) * (1 - k_ / (1 + k_) * q).log()) / under_scale();
  }

 private:
  Tensor log(const Tensor& p) const { return p.clamp(clip_, 1 - clip_).log(); }
  // What makes f(1) = 1.
  double over_scale() const { return (k_ + 1) * std::log1p(k_) - k_; }
  double under_scale() const { return k_ - std::log1p(k_); }

  std::string scheme_;
  double k_, clip_;
};

}  // namespace

void register_truthful_score(Registry<Reward>& registry) {
  add_reward<TruthfulScore>(registry, "truthful_score", "correctness and confidence in one score that is not gameable");
}

}  // namespace plural
