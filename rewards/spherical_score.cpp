// SPDX-License-Identifier: Apache-2.0
#include "rewards/forecast.h"

namespace plural {
namespace {

/// The spherical score: the probability given to what is the case, over the length of the forecast (q, 1 - q).
class SphericalScore final : public ForecastReward {
 public:
  using Options = ForecastOptions;
  using ForecastReward::ForecastReward;
  std::string name() const override { return "spherical_score"; }
  std::string formula() const override {
    return "mean (probability given to what is the case) / sqrt(q^2 + (1 - q)^2)" + options().gates();
  }

 protected:
  Tensor right(const Tensor& q) const override { return q / (q.square() + (1 - q).square()).sqrt(); }
  Tensor wrong(const Tensor& q) const override { return right(1 - q); }
};

}  // namespace

void register_spherical_score(Registry<Reward>& registry) {
  add_reward<SphericalScore>(registry, "spherical_score", "how well the confidences fit: spherical score");
}

}  // namespace plural
