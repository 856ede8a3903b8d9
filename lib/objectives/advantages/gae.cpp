// SPDX-License-Identifier: Apache-2.0
// Generalised advantage estimation (arXiv 1506.02438): the advantage of every token from a critic's values.
#include <ATen/ATen.h>

#include "lib/objectives/advantages/estimators.h"
#include "lib/objectives/advantages/groups.h"
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

namespace {

struct GaeEstimatorOptions {
  double gamma = 1.0;
  double lambda = 0.95;
  bool whiten = false;

  template <class V>
  void fields(V& v) {
    v.field("gamma", gamma, between(0, 1), "discount of what is paid one token later");
    v.field("lambda", lambda, between(0, 1), "1 = returns less values (no bias), 0 = one step (least variance)");
    v.field("whiten", whiten, any_value(), "advantages of the step to mean 0 and std 1 over all tokens");
  }
};

class Gae final : public AdvantageEstimator {
 public:
  explicit Gae(GaeEstimatorOptions options) : options_(options) {}
  std::string name() const override { return "gae"; }
  bool credits_equal_rewards() const override { return true; }
  bool per_token() const override { return true; }
  bool needs_value() const override { return true; }

  AdvantageOutput estimate(const AdvantageInput& input) const override {
    const Tensor length = row_lengths(input).reshape({-1}).to(at::kLong);
    const Tensor row = at::repeat_interleave(length);
    PLURAL_CHECK(input.value.defined(), "gae needs AdvantageInput::value, the values of a critic");
    check_shapes({{"total", input.total, "B"},
                  {"length", length, "B"},
                  {"row", row, "M"},
                  {"value", input.value, "M"},
                  {"token_reward", input.token_reward, "M", true}});
    const GaeOutput out = gae(token_rewards(input, length, row), input.value.to(at::kDouble), length,
                              {.gamma = options_.gamma, .lambda = options_.lambda});
    const Tensor token = options_.whiten ? whiten(out.advantage) : out.advantage;
    // Of a row as a whole: the mean over its tokens.
    const Tensor sum = at::zeros(input.total.sizes(), token.options()).index_add(0, row, token);
    const Tensor mean = sum / length.clamp_min(1);
    const at::ScalarType dtype = input.total.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
    return {.row = mean.to(dtype), .token = token.to(dtype), .returns = out.returns.to(dtype)};
  }

 private:
  // What is not paid at other tokens is paid at the last one of its row.
  static Tensor token_rewards(const AdvantageInput& input, const Tensor& length, const Tensor& row) {
    const Tensor total = input.total.to(at::kDouble);
    const Tensor before = input.token_reward.defined() ? input.token_reward.to(at::kDouble)
                                                       : at::zeros(row.sizes(), total.options());
    const Tensor left = total.index_add(0, row, -before);
    const Tensor has_tokens = length.gt(0).nonzero().squeeze(1);
    const Tensor last = (length.cumsum(0) - 1).index_select(0, has_tokens);
    return before.index_add(0, last, left.index_select(0, has_tokens));
  }

  static Tensor whiten(const Tensor& advantage) {
    if (advantage.numel() < 2) return at::zeros_like(advantage);
    return (advantage - advantage.mean()) / (advantage.std() + kStdEps);
  }

  GaeEstimatorOptions options_;
};

}  // namespace

void add_gae(Registry<AdvantageEstimator>& registry) {
  add_estimator<Gae, GaeEstimatorOptions>(registry, "gae", "PPO: GAE over tokens from the values of a critic");
}

}  // namespace plural
