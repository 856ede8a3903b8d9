// SPDX-License-Identifier: Apache-2.0
#include "rewards/schedules.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

#include "lib/core/format.h"
#include "plural/error.h"

namespace plural {

double linear_ramp(double start, double end, int64_t t, int64_t begin, int64_t finish) {
  if (t <= begin) return start;
  const auto span = static_cast<double>(std::max<int64_t>(1, finish - begin));
  return start + (end - start) * std::min(1.0, static_cast<double>(t - begin) / span);
}

double adaptive_weight(double start, double end, int64_t t, int64_t ramp_start, int64_t max_steps,
                       int64_t planned_steps) {
  const int64_t last = max_steps > 0 ? max_steps : planned_steps > 0 ? planned_steps : std::max<int64_t>(1000, 10 * t);
  return linear_ramp(start, end, t, ramp_start, last);
}

double AdaptiveBeta::step(const std::vector<double>& micro_batch_kl) {
  if (count_ > 0) beta_ = std::max(1e-6, beta_ + rate_ * (sum_ / static_cast<double>(count_) - target_));
  sum_ = 0;
  count_ = static_cast<int64_t>(micro_batch_kl.size());
  for (double kl : micro_batch_kl) sum_ += kl;
  return beta_;
}

Tensor entropy_reward(const Tensor& entropy, const Tensor& mask, const EntropyRewardOptions& options,
                      std::optional<int64_t> step, std::optional<int64_t> max_steps) {
  check_shapes({{"entropy", entropy, "B T"}});
  PLURAL_CHECK(options.vocab_size >= 2, fmt::format("a vocabulary has at least 2 tokens, got {}", options.vocab_size));
  Tensor mean;
  if (mask.defined()) {
    check_shapes({{"entropy", entropy, "B T"}, {"mask", mask, "B U"}});
    const int64_t width = std::min(entropy.size(1), mask.size(1));
    const Tensor kept = mask.narrow(1, 0, width).to(entropy.scalar_type());
    mean = (entropy.narrow(1, 0, width) * kept).sum(1) / kept.sum(1).clamp_min(1);
  } else {
    mean = entropy.size(1) > 0 ? entropy.mean(1) : at::zeros({entropy.size(0)}, entropy.options());
  }
  double factor = 1;
  if (step) {
    if (max_steps && *max_steps >= 1)
      factor = linear_ramp(1.0, options.decay_final_factor, *step, options.decay_start_step, *max_steps);
    else if (mean.ne(0).any().item<bool>())  // nothing to decay otherwise
      throw InputError("the entropy reward's decay needs max_steps >= 1; set the number of steps");
  }
  return (mean / std::log(static_cast<double>(options.vocab_size))).clamp(0, 1) * factor;
}

Tensor combine_rewards(const Tensor& values, const Tensor& weights) {
  check_shapes({{"values", values, "B F"}, {"weights", weights, "F"}});
  return (values.to(at::kFloat) * weights.to(at::kFloat).unsqueeze(0)).nansum(1);
}

}  // namespace plural
