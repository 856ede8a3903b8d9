// SPDX-License-Identifier: Apache-2.0
// The forward passes: packed (training, scoring, prefill) and one token a row (decode). All run the same layers over
// the same tensors, so that sampling and training agree.
#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <optional>

#include "lib/core/format.h"
#include "lib/kernels/decode_attention/decode_attention.h"
#include "lib/kernels/rms_norm/rms_norm.h"
#include "lib/kernels/rotary/rotary.h"
#include "lib/kernels/swiglu/swiglu.h"
#include "lib/kernels/token_logprob/token_logprob.h"
#include "lib/models/attention.h"
#include "lib/models/kv_cache.h"
#include "lib/models/transformer_impl.h"
#include "plural/error.h"

namespace plural {
namespace {

using kernels::add_rms_norm;
using kernels::rms_norm;
using kernels::rotary;
using kernels::StreamNorm;
using kernels::swiglu;

std::optional<Tensor> optional_of(const Tensor& tensor) {
  return tensor.defined() ? std::optional<Tensor>(tensor) : std::nullopt;
}

Tensor linear(const Tensor& x, const Tensor& weight, const Tensor& bias) {
  return at::linear(x, weight, optional_of(bias));
}

/// linear() by the weight's prepacked copy if there is one.
Tensor linear(const Tensor& x, const Tensor& weight, const Tensor& bias, const Tensor& prepacked) {
  return prepacked.defined() ? prepacked_linear(x, prepacked, bias) : linear(x, weight, bias);
}

/// Queries, keys and values of tokens, each [N, heads, D], rotated.
struct Projections {
  Tensor q, k, v;
};

Projections rotate(const TransformerConfig& config, const LayerWeights& layer, Projections p,
                   const RotaryAngles& angles) {
  if (config.qk_norm) {
    p.q = rms_norm(p.q, layer.q_norm, config.rms_eps);
    p.k = rms_norm(p.k, layer.k_norm, config.rms_eps);
  }
  return {rotary(p.q, angles.cos, angles.sin), rotary(p.k, angles.cos, angles.sin), p.v};
}

/// What the blocks add up to, in the type of the residual stream.
class ResidualStream {
 public:
  ResidualStream(const Tensor& embedded, double eps)
      : sum_(embedded.to(kernels::stream_type(embedded.scalar_type()))), eps_(eps) {}
  /// What a block has computed, [N, E]; it joins the sum at the next norm, in one pass with it.
  void add(const Tensor& update) { update_ = update; }
  Tensor norm(const Tensor& weight) {
    StreamNorm result = add_rms_norm(sum_, update_, weight, eps_);
    sum_ = result.stream;
    return result.normal;
  }

 private:
  Tensor sum_, update_;
  double eps_;
};

}  // namespace

int64_t TransformerPolicy::Impl::window(int64_t layer) const {
  return config.sliding_window > 0 && config.layer_slides.at(layer) ? config.sliding_window : 0;
}

Tensor TransformerPolicy::Impl::run(const PackedBatch& batch,
                                    const std::function<void(int64_t, const Tensor&, const Tensor&)>& keep_keys) {
  check_shapes({{"ids", batch.ids, "N"}, {"positions", batch.positions, "N"}});
  PLURAL_CHECK(batch.ids.device() == weights.embedding.device(), "the batch is on another device than the policy");
  const AttentionPlanPtr plan = plan_attention(batch.segments, batch.tokens(), batch.ids.device());
  if (plan->longest > config.context_length)
    throw InputError(
        fmt::format("a sequence of {} tokens does not fit the model's context of {}; shorten the prompt or "
                    "the completion",
                    plan->longest, config.context_length));
  const RotaryAngles angles = frequencies.angles(batch.positions, dtype);
  ResidualStream stream(at::embedding(weights.embedding, batch.ids), config.rms_eps);
  for (int64_t i = 0; i < config.layers; ++i) {
    const LayerWeights& layer = weights.layers[i];
    const Tensor normal = stream.norm(layer.input_norm);
    const auto heads = [&](const Tensor& weight, const Tensor& bias, int64_t count) {
      return linear(normal, weight, bias).view({-1, count, config.head_size});
    };
    const Projections p = rotate(
        config, layer,
        {heads(layer.q, layer.q_bias, config.heads), heads(layer.k, layer.k_bias, config.kv_heads),
         heads(layer.v, layer.v_bias, config.kv_heads)},
        angles);
    if (keep_keys) keep_keys(i, p.k, p.v);
    const Tensor attended = packed_attention(p.q, p.k, p.v, plan, window(i));
    stream.add(linear(attended.flatten(1), layer.o, layer.o_bias));
    const Tensor post = stream.norm(layer.post_norm);
    const Tensor mixed = swiglu(linear(post, layer.gate, layer.gate_bias), linear(post, layer.up, layer.up_bias));
    stream.add(linear(mixed, layer.down, layer.down_bias));
  }
  return stream.norm(weights.final_norm);
}

Tensor TransformerPolicy::hidden(const PackedBatch& batch) { return impl_->run(batch, nullptr); }

PolicyOutput TransformerPolicy::evaluate(const PackedBatch& batch, const EvaluateOptions& options) {
  check_shapes({{"source", batch.source, "M"}, {"target", batch.target, "M"}});
  const Tensor rows = hidden(batch).index_select(0, batch.source);
  const kernels::TokenLogprob result = kernels::token_logprob(rows, impl_->weights.head, batch.target,
                                                              options.temperature, options.entropy);
  return {result.log_prob, result.entropy};
}

Tensor TransformerPolicy::logits(const Tensor& hidden) {
  const auto prepacked = at::GradMode::is_enabled() ? nullptr : impl_->prepacked.lock();
  const Tensor result = prepacked ? prepacked_linear(hidden, prepacked->head, {})
                                  : kernels::head_logits(hidden, impl_->weights.head);
  return result.scalar_type() == at::kBFloat16 ? result.to(at::kFloat) : result;
}

std::shared_ptr<const void> TransformerPolicy::prepack() {
  std::shared_ptr<const PrepackedWeights> packed = prepack_weights(impl_->weights);
  impl_->prepacked = packed;
  return packed;
}

Tensor TransformerPolicy::prefill(const PackedBatch& batch, KvCache& cache, int64_t first_prefix) {
  const at::NoGradGuard no_grad;
  std::vector<int64_t> last;
  for (const Segment& segment : batch.segments) {
    PLURAL_CHECK(segment.parent < 0, "prefill takes whole prompts: segments without parents");
    last.push_back(segment.begin + segment.length - 1);
  }
  const auto store = [&](int64_t layer, const Tensor& keys, const Tensor& values) {
    for (size_t i = 0; i < batch.segments.size(); ++i) {
      const Segment& segment = batch.segments[i];
      const auto part = [&](const Tensor& x) {
        return x.narrow(0, segment.begin, segment.length).transpose(0, 1).contiguous();  // [Hkv, S, D]
      };
      cache.set_prefix(first_prefix + static_cast<int64_t>(i), layer, part(keys), part(values));
    }
  };
  const Tensor states = impl_->run(batch, store);
  return states.index_select(0, at::tensor(last, at::TensorOptions().dtype(at::kLong)).to(states.device()));
}

Tensor TransformerPolicy::decode(const Tensor& ids, const Tensor& positions, const std::vector<int64_t>& slots,
                                 KvCache& cache) {
  const at::NoGradGuard no_grad;
  const TransformerConfig& config = impl_->config;
  check_shapes({{"ids", ids, "R"}, {"positions", positions, "R"}});
  PLURAL_CHECK(ids.numel() == static_cast<int64_t>(slots.size()), "one slot for each id");
  const int64_t query = config.heads * config.head_size, key = config.kv_heads * config.head_size;

  // Where each row's keys are. Prefixes are numbered in the order in which rows first use them.
  std::vector<kernels::DecodeRow> rows;
  std::vector<int64_t> prefixes, places;
  std::unordered_map<int64_t, int64_t> prefix_index;
  for (const int64_t slot : slots) {
    const int64_t prefix = cache.prefix_of(slot);
    const auto [it, added] = prefix_index.try_emplace(prefix, static_cast<int64_t>(prefixes.size()));
    if (added) prefixes.push_back(prefix);
    places.push_back(cache.own_length(slot));
    PLURAL_CHECK(places.back() < cache.row_capacity(), fmt::format("slot {} is full", slot));
    if (cache.total_length(slot) >= config.context_length)
      throw InputError(fmt::format("a row has reached the model's context of {} tokens", config.context_length));
    rows.push_back({slot, places.back() + 1, it->second});
  }
  const auto long_options = at::TensorOptions().dtype(at::kLong);
  const Tensor slot_index = at::tensor(slots, long_options).to(cache.device());
  const Tensor place_index = at::tensor(places, long_options).to(cache.device());

  const auto prepacked = impl_->prepacked.lock();
  const RotaryAngles angles = impl_->frequencies.angles(positions, impl_->dtype);
  ResidualStream stream(at::embedding(impl_->weights.embedding, ids), config.rms_eps);
  for (int64_t i = 0; i < config.layers; ++i) {
    const LayerWeights& layer = impl_->weights.layers[i];
    const PrepackedWeights::Layer packed = prepacked ? prepacked->layers[i] : PrepackedWeights::Layer{};
    const auto qkv = linear(stream.norm(layer.input_norm), layer.qkv, layer.qkv_bias, packed.qkv)
                         .split_with_sizes({query, key, key}, 1);
    const auto heads = [&](const Tensor& part) { return part.unflatten(1, {-1, config.head_size}); };
    const Projections p = rotate(config, layer, {heads(qkv[0]), heads(qkv[1]), heads(qkv[2])}, angles);
    cache.write(i, slot_index, place_index, p.k, p.v);
    std::vector<Tensor> prefix_keys, prefix_values;
    for (const int64_t prefix : prefixes) {
      prefix_keys.push_back(cache.prefix_keys(prefix, i));
      prefix_values.push_back(cache.prefix_values(prefix, i));
    }
    kernels::DecodeAttentionInput attention;
    attention.query = p.q.contiguous();
    attention.own_keys = cache.row_keys(i);
    attention.own_values = cache.row_values(i);
    attention.prefix_keys = prefix_keys;
    attention.prefix_values = prefix_values;
    attention.rows = rows;
    attention.scale = 1.0 / std::sqrt(static_cast<double>(config.head_size));
    attention.window = impl_->window(i);
    stream.add(linear(kernels::decode_attention(attention).flatten(1), layer.o, layer.o_bias, packed.o));
    const auto gate_up = linear(stream.norm(layer.post_norm), layer.gate_up, layer.gate_up_bias, packed.gate_up)
                             .chunk(2, 1);
    stream.add(linear(swiglu(gate_up[0], gate_up[1]), layer.down, layer.down_bias, packed.down));
  }
  cache.advance(slots);
  return stream.norm(impl_->weights.final_norm);
}

}  // namespace plural
