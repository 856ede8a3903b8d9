// SPDX-License-Identifier: Apache-2.0
#include <cmath>

#include "lib/core/format.h"
#include "rewards/exclusive_forecast.h"

namespace plural {
namespace {

/// The set's confidences and "none of these" as one distribution, by a proper score of it.
class JointScore final : public ExclusiveForecastReward {
 public:
  struct Options {
    std::string score = "brier";
    double clip = 1.0 / 203;
    bool require_format = true;
    template <class V>
    void fields(V& v) {
      v.field("score", score, one_of({"brier", "log"}), "brier: squared errors; log: probability given to the outcome");
      v.field("clip", clip, between(1e-6, 0.5), "log: the outcome's probability counts as at least this");
      v.field("require_format", require_format, any_value(), "0 where the format is broken");
    }
  };

  explicit JointScore(Options options)
      : ExclusiveForecastReward(options.require_format), score_(std::move(options.score)), clip_(options.clip) {}
  std::string name() const override { return "joint_score"; }
  std::string formula() const override {
    return (score_ == "brier"
                ? std::string("1 - 1/2 sum over answers and none of (q - z)^2")
                : fmt::format("1 + ln(q of the outcome, at least {:.4g}) / {:.4g}", clip_, -std::log(clip_))) +
           ", q of none = 1 - sum q; 0 if that is no distribution" + gates();
  }

 protected:
  Tensor judge(const ExclusiveForecast& forecast) const override {
    if (score_ == "log") {
      const Tensor outcome = (forecast.q * forecast.z).sum(1) + forecast.none * forecast.z_none;
      return 1 - outcome.clamp(clip_, 1).log() / std::log(clip_);
    }
    return 1 - 0.5 * ((forecast.q - forecast.z).square().sum(1) + (forecast.none - forecast.z_none).square());
  }

 private:
  std::string score_;
  double clip_;
};

}  // namespace

void register_joint_score(Registry<Reward>& registry) {
  add_reward<JointScore>(registry, "joint_score", "exclusive answers: the set and 'none of these' as one forecast");
}

}  // namespace plural
