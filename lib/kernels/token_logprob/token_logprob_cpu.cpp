// SPDX-License-Identifier: Apache-2.0
#include <ATen/ATen.h>
#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>

#include <cmath>

#include "lib/kernels/cpu_simd.h"
#include "lib/kernels/token_logprob/token_logprob.h"

namespace plural::kernels::detail {
namespace {

PLURAL_ALWAYS_INLINE float exponential(float x) { return exp_lane(x); }
PLURAL_ALWAYS_INLINE double exponential(double x) { return std::exp(x); }

/// Sums over one row: of e = exp(scaled - max), and of e * (scaled - max) for the entropy.
struct RowSums {
  double maximum, exponentials, weighted;
};

template <class scalar_t, class compute_t>
PLURAL_ALWAYS_INLINE RowSums row_sums_body(const scalar_t* logits, int64_t size, compute_t scale) {
  compute_t maximum = -std::numeric_limits<compute_t>::infinity();
#pragma omp simd reduction(max : maximum)
  for (int64_t j = 0; j < size; ++j) {
    const compute_t value = load(logits[j]);
    maximum = value > maximum ? value : maximum;
  }
  maximum *= scale;
  // Partial sums of 1024 terms in float32, added in float64: the error does not grow with the vocabulary.
  constexpr int64_t kBlock = 1024;
  double exponentials = 0.0, weighted = 0.0;
  for (int64_t begin = 0; begin < size; begin += kBlock) {
    const int64_t end = begin + kBlock < size ? begin + kBlock : size;
    compute_t sum = 0, sum_weighted = 0;
#pragma omp simd reduction(+ : sum, sum_weighted)
    for (int64_t j = begin; j < end; ++j) {
      const compute_t x = load(logits[j]) * scale - maximum;
      const compute_t e = exponential(x);
      sum += e;
      sum_weighted += e > 0 ? e * x : compute_t(0);  // a logit of -inf weighs nothing
    }
    exponentials += sum;
    weighted += sum_weighted;
  }
  return {static_cast<double>(maximum), exponentials, weighted};
}

PLURAL_CPU_CLONES RowSums row_sums(const at::BFloat16* logits, int64_t size, double scale) {
  return row_sums_body<at::BFloat16, float>(logits, size, static_cast<float>(scale));
}
PLURAL_CPU_CLONES RowSums row_sums(const float* logits, int64_t size, double scale) {
  return row_sums_body<float, float>(logits, size, static_cast<float>(scale));
}
RowSums row_sums(const double* logits, int64_t size, double scale) {
  return row_sums_body<double, double>(logits, size, scale);
}

/// d/dlogit_j = scale * p_j * (-g + -gh * (ln p_j + H)); the target adds scale * g afterwards.
template <class scalar_t, class compute_t>
PLURAL_ALWAYS_INLINE void row_gradient_body(scalar_t* logits, int64_t size, compute_t scale, compute_t log_sum,
                                            compute_t entropy, compute_t grad_log_prob, compute_t grad_entropy) {
  const compute_t from_log_prob = -scale * grad_log_prob;
  const compute_t from_entropy = -scale * grad_entropy;
  if (grad_entropy == 0) {
#pragma omp simd
    for (int64_t j = 0; j < size; ++j) store(logits[j], from_log_prob * exponential(load(logits[j]) * scale - log_sum));
    return;
  }
#pragma omp simd
  for (int64_t j = 0; j < size; ++j) {
    const compute_t log_p = load(logits[j]) * scale - log_sum;
    const compute_t p = exponential(log_p);
    store(logits[j], p > 0 ? p * (from_log_prob + from_entropy * (log_p + entropy)) : compute_t(0));
  }
}

PLURAL_CPU_CLONES void row_gradient(at::BFloat16* logits, int64_t size, float scale, float log_sum, float entropy,
                                    float grad_log_prob, float grad_entropy) {
  row_gradient_body<at::BFloat16, float>(logits, size, scale, log_sum, entropy, grad_log_prob, grad_entropy);
}
PLURAL_CPU_CLONES void row_gradient(float* logits, int64_t size, float scale, float log_sum, float entropy,
                                    float grad_log_prob, float grad_entropy) {
  row_gradient_body<float, float>(logits, size, scale, log_sum, entropy, grad_log_prob, grad_entropy);
}
void row_gradient(double* logits, int64_t size, double scale, double log_sum, double entropy, double grad_log_prob,
                  double grad_entropy) {
  row_gradient_body<double, double>(logits, size, scale, log_sum, entropy, grad_log_prob, grad_entropy);
}

}  // namespace

LogitStatistics logit_statistics_cpu(const Tensor& logits, const Tensor& target, double temperature,
                                     bool with_entropy) {
  const int64_t rows = logits.size(0), vocabulary = logits.size(1);
  const auto options = logits.options().dtype(logits.scalar_type() == at::kDouble ? at::kDouble : at::kFloat);
  LogitStatistics result{at::empty({rows}, options), at::empty({rows}, options),
                         with_entropy ? at::empty({rows}, options) : Tensor()};
  const double scale = 1.0 / temperature;
  const int64_t* targets = target.const_data_ptr<int64_t>();
  AT_DISPATCH_FLOATING_TYPES_AND(at::kBFloat16, logits.scalar_type(), "logit_statistics", [&] {
    using compute_t = std::conditional_t<std::is_same_v<scalar_t, double>, double, float>;
    const scalar_t* data = logits.const_data_ptr<scalar_t>();
    compute_t* log_prob = result.log_prob.data_ptr<compute_t>();
    compute_t* log_sum = result.log_sum.data_ptr<compute_t>();
    compute_t* entropy = with_entropy ? result.entropy.data_ptr<compute_t>() : nullptr;
    at::parallel_for(0, rows, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const scalar_t* row = data + i * vocabulary;
        const RowSums sums = row_sums(row, vocabulary, scale);
        const double log_exponentials = std::log(sums.exponentials);
        log_sum[i] = static_cast<compute_t>(sums.maximum + log_exponentials);
        // Through the maximum, so that a probability near 1 keeps its digits.
        const double target_logit = static_cast<compute_t>(load(row[targets[i]])) * static_cast<compute_t>(scale);
        log_prob[i] = static_cast<compute_t>(target_logit - sums.maximum - log_exponentials);
        if (entropy) entropy[i] = static_cast<compute_t>(log_exponentials - sums.weighted / sums.exponentials);
      }
    });
  });
  return result;
}

void logit_gradient_cpu_(Tensor& logits, const Tensor& target, const Tensor& log_sum, const Tensor& entropy,
                         const Tensor& grad_log_prob, const Tensor& grad_entropy, double temperature) {
  const int64_t rows = logits.size(0), vocabulary = logits.size(1);
  const double scale = 1.0 / temperature;
  const int64_t* targets = target.const_data_ptr<int64_t>();
  AT_DISPATCH_FLOATING_TYPES_AND(at::kBFloat16, logits.scalar_type(), "logit_gradient", [&] {
    using compute_t = std::conditional_t<std::is_same_v<scalar_t, double>, double, float>;
    scalar_t* data = logits.data_ptr<scalar_t>();
    const compute_t* sums = log_sum.const_data_ptr<compute_t>();
    const compute_t* grads = grad_log_prob.const_data_ptr<compute_t>();
    const compute_t* entropies = grad_entropy.defined() ? entropy.const_data_ptr<compute_t>() : nullptr;
    const compute_t* entropy_grads = grad_entropy.defined() ? grad_entropy.const_data_ptr<compute_t>() : nullptr;
    const compute_t factor = static_cast<compute_t>(scale);
    at::parallel_for(0, rows, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        scalar_t* row = data + i * vocabulary;
        const compute_t target_log_p = load(row[targets[i]]) * factor - sums[i];
        const compute_t entropy_grad = entropy_grads ? entropy_grads[i] : compute_t(0);
        row_gradient(row, vocabulary, factor, sums[i], entropies ? entropies[i] : compute_t(0), grads[i], entropy_grad);
        // 1 - p at the target, formed before rounding to the storage type.
        const compute_t p = exponential(target_log_p);
        compute_t target_grad = factor * grads[i] * (1 - p);
        if (entropy_grad != 0 && p > 0) target_grad -= factor * entropy_grad * p * (target_log_p + entropies[i]);
        store(row[targets[i]], target_grad);
      }
    });
  });
}

}  // namespace plural::kernels::detail
