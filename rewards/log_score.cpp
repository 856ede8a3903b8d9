// SPDX-License-Identifier: Apache-2.0
#include <cmath>

#include "lib/core/format.h"
#include "rewards/forecast.h"

namespace plural {
namespace {

/// The logarithmic score of each confidence, clipped, on the scale 0 (sure and wrong) to 1.
class LogScore final : public ForecastReward {
 public:
  struct Options : ForecastOptions {
    double clip = 1.0 / 203;
    template <class V>
    void fields(V& v) {
      ForecastOptions::fields(v);
      v.field("clip", clip, between(1e-6, 0.5), "confidences count as at least this and at most 1 - this");
    }
  };

  explicit LogScore(const Options& options) : ForecastReward(options), clip_(options.clip) {}
  std::string name() const override { return "log_score"; }
  std::string formula() const override {
    return fmt::format("1 + mean ln(probability given to what is the case, at least {:.4g}) / {:.4g}{}", clip_,
                       -std::log(clip_), options().gates());
  }

 protected:
  Tensor right(const Tensor& q) const override { return 1 - q.clamp(clip_, 1 - clip_).log() / std::log(clip_); }
  Tensor wrong(const Tensor& q) const override { return right(1 - q); }

 private:
  double clip_;
};

}  // namespace

void register_log_score(Registry<Reward>& registry) {
  add_reward<LogScore>(registry, "log_score", "how well the confidences fit: clipped logarithmic score");
}

}  // namespace plural
