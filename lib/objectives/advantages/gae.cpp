// SPDX-License-Identifier: Apache-2.0
#include <ATen/ATen.h>

#include "plural/advantage.h"
#include "plural/error.h"

namespace plural {

GaeOutput gae(const Tensor& reward, const Tensor& value, const Tensor& length, const GaeOptions& options) {
  check_shapes({{"reward", reward, "M"}, {"value", value, "M"}, {"length", length, "B"}});
  const Tensor r = reward.detach().to(at::kCPU, at::kDouble).contiguous();
  const Tensor v = value.detach().to(at::kCPU, at::kDouble).contiguous();
  const Tensor lengths = length.to(at::kCPU).contiguous();
  PLURAL_CHECK(lengths.sum().item<int64_t>() == r.size(0), "the lengths of the rows must add up to the tokens");
  Tensor advantage = at::zeros_like(r);
  const double *rewards = r.const_data_ptr<double>(), *values = v.const_data_ptr<double>();
  double* out = advantage.mutable_data_ptr<double>();
  int64_t begin = 0;
  for (int64_t b = 0; b < lengths.size(0); ++b) {
    const int64_t end = begin + lengths.const_data_ptr<int64_t>()[b];
    double next_value = 0, running = 0;  // beyond the last token nothing is earned
    for (int64_t t = end - 1; t >= begin; --t) {
      running = rewards[t] + options.gamma * next_value - values[t] + options.gamma * options.lambda * running;
      out[t] = running;
      next_value = values[t];
    }
    begin = end;
  }
  const auto back = [&](const Tensor& x) { return x.to(value.device(), value.scalar_type()); };
  return {back(advantage), back(advantage + v)};
}

}  // namespace plural
