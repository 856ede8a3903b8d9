// SPDX-License-Identifier: Apache-2.0
#include "rewards/forecast.h"

namespace plural {
namespace {

/// Multi-Brier (arXiv 2603.24844): 1 - mean over the answers of (confidence - correct)^2.
class Brier final : public ForecastReward {
 public:
  using Options = ForecastOptions;
  using ForecastReward::ForecastReward;
  std::string name() const override { return "brier"; }
  std::string formula() const override { return "1 - mean (confidence - correct)^2" + options().gates(); }

 protected:
  Tensor right(const Tensor& q) const override { return 1 - (q - 1).square(); }
  Tensor wrong(const Tensor& q) const override { return 1 - q.square(); }
};

}  // namespace

void register_brier(Registry<Reward>& registry) {
  add_reward<Brier>(registry, "brier", "how well the confidences fit: 1 - mean squared error");
}

}  // namespace plural
