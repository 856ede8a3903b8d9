// SPDX-License-Identifier: Apache-2.0
#include "rewards/exclusive_forecast.h"

namespace plural {
namespace {

/// Continuous ranked probability score over the ranks 1..K: does the right answer come within the first r, as forecast?
class Crps final : public ExclusiveForecastReward {
 public:
  struct Options {
    bool require_format = true;
    template <class V>
    void fields(V& v) {
      v.field("require_format", require_format, any_value(), "0 where the format is broken");
    }
  };

  explicit Crps(Options options) : ExclusiveForecastReward(options.require_format) {}
  std::string name() const override { return "crps"; }
  std::string formula() const override {
    return "1 - mean over ranks r of (q_1 + ... + q_r - [right answer within the first r])^2" + gates();
  }

 protected:
  Tensor judge(const ExclusiveForecast& forecast) const override {
    const Tensor error = (forecast.q.cumsum(1) - forecast.z.cumsum(1)).square();
    return 1 - (error * forecast.asked).sum(1) / forecast.asked.sum(1);
  }
};

}  // namespace

void register_crps(Registry<Reward>& registry) {
  add_reward<Crps>(registry, "crps", "exclusive answers: ranked probability score over the ranks");
}

}  // namespace plural
