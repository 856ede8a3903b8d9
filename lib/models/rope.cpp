// SPDX-License-Identifier: Apache-2.0
#include "lib/models/rope.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <cmath>
#include <numbers>

namespace plural {
namespace {

/// llama3: long wavelengths are divided by the factor, short ones kept, those between interpolated.
Tensor llama3_frequencies(const Tensor& base, const TransformerConfig& config) {
  const double context = static_cast<double>(config.rope_original_context);
  const double low = config.rope_low_freq_factor, high = config.rope_high_freq_factor;
  const Tensor wavelength = 2.0 * std::numbers::pi / base;
  const Tensor is_long = wavelength > context / low;
  const Tensor is_short = wavelength < context / high;
  const Tensor scaled = at::where(is_long, base / config.rope_factor, base);
  const Tensor smooth = (context / wavelength - low) / (high - low);
  const Tensor between = (1 - smooth) * scaled / config.rope_factor + smooth * scaled;
  return at::where(is_long.logical_or(is_short), scaled, between);
}

/// yarn: a linear ramp over the dimensions from kept to divided frequencies.
Tensor yarn_frequencies(const Tensor& period, const TransformerConfig& config) {
  const double size = static_cast<double>(config.head_size);
  const auto dimension_of = [&](double rotations) {
    return size * std::log(config.rope_original_context / (rotations * 2.0 * std::numbers::pi)) /
           (2.0 * std::log(config.rope_theta));
  };
  double low = dimension_of(config.rope_beta_fast), high = dimension_of(config.rope_beta_slow);
  if (config.rope_truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, size - 1.0);
  if (low == high) high += 0.001;  // transformers' guard against a division by zero
  const Tensor ramp = ((at::arange(config.head_size / 2, period.options()) - low) / (high - low)).clamp(0, 1);
  const Tensor keep = 1 - ramp;
  return 1.0 / (config.rope_factor * period) * (1 - keep) + 1.0 / period * keep;
}

double yarn_attention_factor(const TransformerConfig& config) {
  if (config.rope_attention_factor != 0.0) return config.rope_attention_factor;
  const auto scale = [&](double mscale) {
    return config.rope_factor <= 1.0 ? 1.0 : 0.1 * mscale * std::log(config.rope_factor) + 1.0;
  };
  if (config.rope_mscale != 0.0 && config.rope_mscale_all_dim != 0.0)
    return scale(config.rope_mscale) / scale(config.rope_mscale_all_dim);
  return scale(1.0);
}

}  // namespace

Rotary::Rotary(const TransformerConfig& config, at::Device device) {
  // Computed on the CPU so that every device starts from the same bits.
  const at::NoGradGuard no_grad;
  const Tensor exponent = at::arange(0, config.head_size, 2, at::kFloat) / static_cast<double>(config.head_size);
  const Tensor period = at::pow(at::Scalar(config.rope_theta), exponent);
  Tensor frequency = 1.0 / period;
  switch (config.rope_scaling) {
    case RopeScaling::kNone:
      break;
    case RopeScaling::kLinear:
      frequency = frequency / config.rope_factor;
      break;
    case RopeScaling::kLlama3:
      frequency = llama3_frequencies(frequency, config);
      break;
    case RopeScaling::kYarn:
      frequency = yarn_frequencies(period, config);
      attention_factor_ = yarn_attention_factor(config);
      break;
  }
  inverse_frequency_ = frequency.to(device);
}

RotaryAngles Rotary::angles(const Tensor& positions, at::ScalarType dtype) const {
  const at::NoGradGuard no_grad;
  const Tensor angle = positions.to(at::kFloat).unsqueeze(1) * inverse_frequency_;  // [N, D / 2]
  return {(angle.cos() * attention_factor_).to(dtype), (angle.sin() * attention_factor_).to(dtype)};
}

}  // namespace plural
