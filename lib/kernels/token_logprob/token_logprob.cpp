// SPDX-License-Identifier: Apache-2.0
#include "lib/kernels/token_logprob/token_logprob.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>

#include "lib/core/format.h"
#include "lib/kernels/dispatch.h"
#include "lib/kernels/element_type.h"
#include "lib/kernels/token_logprob/token_logprob_raw.h"
#include "plural/error.h"

namespace plural::kernels {

Tensor head_logits(const Tensor& hidden, const Tensor& weight) {
  // CUDA multiplies bfloat16 into float32 directly; the CPU's product rounds once to bfloat16, as in transformers.
  if (hidden.is_cuda() && hidden.scalar_type() == at::kBFloat16) return at::mm(hidden, weight.t(), at::kFloat);
  return at::linear(hidden, weight);
}

namespace {

LogitsRaw raw_of(const CudaKernels& cuda, const Tensor& logits, const Tensor& target, double temperature) {
  PLURAL_CHECK(logits.is_contiguous() && target.is_contiguous(), "a chunk's logits and targets are contiguous");
  LogitsRaw params;
  params.logits = logits.data_ptr();
  params.target = target.const_data_ptr<int64_t>();
  params.rows = logits.size(0);
  params.vocabulary = logits.size(1);
  params.scale = 1.0 / temperature;
  params.type = element_type(logits);
  params.stream = cuda.use_device(logits.device().index());
  return params;
}

}  // namespace

namespace detail {

LogitStatistics logit_statistics(const Tensor& logits, const Tensor& target, double temperature, bool with_entropy) {
  const CudaKernels* cuda = cuda_kernels_for(logits);
  if (cuda == nullptr) return logit_statistics_cpu(logits, target, temperature, with_entropy);
  const auto numbers = [&] {
    const bool wide = logits.scalar_type() == at::kDouble;
    return at::empty({logits.size(0)}, logits.options().dtype(wide ? at::kDouble : at::kFloat));
  };
  LogitStatistics result{numbers(), numbers(), with_entropy ? numbers() : Tensor()};
  if (logits.numel() == 0) return result;
  LogitsRaw params = raw_of(*cuda, logits, target, temperature);
  params.log_prob = result.log_prob.mutable_data_ptr();
  params.log_sum = result.log_sum.mutable_data_ptr();
  params.entropy = with_entropy ? result.entropy.mutable_data_ptr() : nullptr;
  cuda->logit_statistics(params);
  return result;
}

void logit_gradient_(Tensor& logits, const Tensor& target, const Tensor& log_sum, const Tensor& entropy,
                     const Tensor& grad_log_prob, const Tensor& grad_entropy, double temperature) {
  const CudaKernels* cuda = cuda_kernels_for(logits);
  if (cuda == nullptr)
    return logit_gradient_cpu_(logits, target, log_sum, entropy, grad_log_prob, grad_entropy, temperature);
  if (logits.numel() == 0) return;
  LogitsRaw params = raw_of(*cuda, logits, target, temperature);
  params.log_sum = log_sum.data_ptr();
  params.grad_log_prob = grad_log_prob.const_data_ptr();
  if (grad_entropy.defined()) {
    params.entropy = entropy.data_ptr();
    params.grad_entropy = grad_entropy.const_data_ptr();
  }
  cuda->logit_gradient(params);
}

}  // namespace detail

namespace {

namespace autograd = torch::autograd;

/// Rows a chunk, from a budget for the chunk's logits. Few, large chunks: each one reads the whole weight.
int64_t rows_per_chunk(const Tensor& hidden, const Tensor& weight) {
  constexpr int64_t kChunkBytes = int64_t{64} << 20;
  const int64_t row_bytes = weight.size(0) * static_cast<int64_t>(hidden.element_size());
  return std::max<int64_t>(1, kChunkBytes / std::max<int64_t>(1, row_bytes));
}

// Saves no logits. Gradients could be formed in forward, but the weight's needs the upstream gradient of every
// row, so the chunk's logits are computed again: one more product instead of [M, V] numbers kept.
class TokenLogprobFunction : public autograd::Function<TokenLogprobFunction> {
 public:
  static autograd::variable_list forward(autograd::AutogradContext* context, const Tensor& hidden, const Tensor& weight,
                                         const Tensor& target, double temperature, bool with_entropy) {
    const at::NoGradGuard no_grad;
    const int64_t rows = hidden.size(0), step = rows_per_chunk(hidden, weight);
    std::vector<Tensor> log_prob, log_sum, entropy;
    for (int64_t begin = 0; begin < std::max<int64_t>(rows, 1); begin += step) {
      const int64_t count = std::min(step, rows - begin);
      const Tensor logits = head_logits(hidden.narrow(0, begin, count), weight);
      const detail::LogitStatistics chunk = detail::logit_statistics(logits, target.narrow(0, begin, count),
                                                                     temperature, with_entropy);
      log_prob.push_back(chunk.log_prob);
      log_sum.push_back(chunk.log_sum);
      if (with_entropy) entropy.push_back(chunk.entropy);
    }
    const Tensor all_entropy = with_entropy ? at::cat(entropy) : Tensor();
    context->save_for_backward({hidden, weight, target, at::cat(log_sum), all_entropy});
    context->saved_data["temperature"] = temperature;
    context->set_materialize_grads(false);
    autograd::variable_list outputs{at::cat(log_prob)};
    if (with_entropy) outputs.push_back(all_entropy);
    return outputs;
  }

  static autograd::variable_list backward(autograd::AutogradContext* context, autograd::variable_list grads) {
    const auto saved = context->get_saved_variables();
    const Tensor &hidden = saved[0], &weight = saved[1], &target = saved[2], &log_sum = saved[3], &entropy = saved[4];
    const double temperature = context->saved_data["temperature"].toDouble();
    const Tensor grad_log_prob = grads[0].defined() ? grads[0].contiguous() : at::zeros_like(log_sum);
    const Tensor grad_entropy = grads.size() > 1 && grads[1].defined() ? grads[1].contiguous() : Tensor();
    const bool needs_hidden = context->needs_input_grad(0), needs_weight = context->needs_input_grad(1);

    const int64_t rows = hidden.size(0), step = rows_per_chunk(hidden, weight);
    Tensor grad_hidden = needs_hidden ? at::zeros_like(hidden) : Tensor();
    Tensor grad_weight;  // float32 while several chunks add to it
    const bool one_chunk = rows <= step;
    for (int64_t begin = 0; begin < rows; begin += step) {
      const int64_t count = std::min(step, rows - begin);
      const auto part = [&](const Tensor& whole) { return whole.defined() ? whole.narrow(0, begin, count) : whole; };
      const Tensor chunk = part(hidden);
      Tensor logits = head_logits(chunk, weight);
      detail::logit_gradient_(logits, part(target), part(log_sum), part(entropy), part(grad_log_prob),
                              part(grad_entropy), temperature);
      const Tensor gradient = logits.to(hidden.scalar_type());
      if (needs_hidden) part(grad_hidden).copy_(at::mm(gradient, weight));
      if (!needs_weight) continue;
      const Tensor product = at::mm(gradient.t(), chunk);
      if (one_chunk) {
        grad_weight = product;
      } else if (!grad_weight.defined()) {
        grad_weight = product.to(log_sum.scalar_type(), /*non_blocking=*/false, /*copy=*/false);
      } else {
        grad_weight.add_(product);
      }
    }
    if (needs_weight) {
      grad_weight = grad_weight.defined() ? grad_weight.to(weight.scalar_type()) : at::zeros_like(weight);
    }
    return {grad_hidden, grad_weight, Tensor(), Tensor(), Tensor()};
  }
};

}  // namespace

TokenLogprob token_logprob(const Tensor& hidden, const Tensor& weight, const Tensor& target, double temperature,
                           bool with_entropy) {
  check_shapes({{"hidden", hidden, "M E"}, {"weight", weight, "V E"}, {"target", target, "M"}});
  PLURAL_CHECK(temperature > 0.0, fmt::format("temperature is {}", temperature));
  PLURAL_CHECK(hidden.scalar_type() == weight.scalar_type(), "hidden states and head have one dtype");
  PLURAL_CHECK(target.scalar_type() == at::kLong, "targets are int64");
  if (target.is_cpu() && target.numel() > 0) {
    const auto [low, high] = at::aminmax(target);
    PLURAL_CHECK(low.item<int64_t>() >= 0 && high.item<int64_t>() < weight.size(0),
                 fmt::format("targets lie in [{}, {}], the vocabulary has {} ids", low.item<int64_t>(),
                             high.item<int64_t>(), weight.size(0)));
  }
  const auto outputs = TokenLogprobFunction::apply(hidden.contiguous(), weight, target.contiguous(), temperature,
                                                   with_entropy);
  return {outputs[0], with_entropy ? outputs[1] : Tensor()};
}

}  // namespace plural::kernels
