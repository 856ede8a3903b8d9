// SPDX-License-Identifier: Apache-2.0
// A critic says what a completion is still going to be paid, at each of its tokens: a linear head on the hidden states
// of the policy, or of a model of its own. It is what PPO subtracts from the reward (docs/advantages.md, gae).
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>

#include "plural/config.h"
#include "plural/optimizer.h"
#include "plural/policy.h"
#include "plural/tensor.h"

namespace plural {

struct CriticOptions {
  std::string trunk = "none";
  std::string model;
  bool stop_gradient = false;
  int64_t warmup_steps = 0;
  double value_clip = 0.2;
  double value_weight = 0.5;
  OptimizerOptions optimizer{};

  using config_struct = void;
  template <class V>
  void fields(V& v) {
    v.field("trunk", trunk, one_of({"none", "shared", "own"}),
            "what the value head reads: shared = the policy's hidden states, own = those of a second model; none = no "
            "critic");
    v.field("model", model, any_value(),
            "own: Hugging Face folder to start from, with the value head in it if there is one; empty = the starting "
            "model");
    v.field("stop_gradient", stop_gradient, any_value(), "the value loss changes the head and not the trunk");
    v.field("warmup_steps", warmup_steps, at_least(0), "only the critic learns in the first so many steps");
    v.field("value_clip", value_clip, at_least(0),
            "a value earns nothing by leaving its old one by more than this; 0 = off");
    v.field("value_weight", value_weight, above(0), "weight of the value loss next to the objective's");
    v.field("optimizer", optimizer, any_value(), "AdamW of the value head and of the own trunk");
  }
  void validate(ConfigReader& reader);
  /// There is a critic.
  bool used() const { return trunk != "none"; }
};

/// V(token t) = w . h + b with h the hidden state that predicts token t: what stands before it decides, nothing after.
/// The head starts at 0, so that the first advantages are those without a critic. It is float32 (float64 for a float64
/// trunk). One thread at a time.
class Critic {
 public:
  /// A head on the policy's own trunk; `policy` must outlive the critic. The policy's optimiser takes the trunk's share
  /// of the gradient. A policy without hidden states throws InputError.
  Critic(Policy& policy, CriticOptions options);
  /// A head on a model of its own, all of which (its language-model head aside) is trained with the critic's optimiser.
  Critic(std::unique_ptr<Policy> trunk, CriticOptions options);

  /// [M] values at the tokens that `batch` scores. Gradient follows the caller's grad mode; it goes into the trunk
  /// unless that is stopped, by the options or by `head_only`. Cost: one forward of the trunk.
  Tensor values(const PackedBatch& batch, bool head_only = false);
  /// The value loss has a gradient in the policy's parameters.
  bool moves_policy() const { return own_trunk_ == nullptr && !options_.stop_gradient; }
  bool warming_up(int64_t step) const { return step < options_.warmup_steps; }

  /// "head.weight" [1, E], "head.bias" [1]; with an own trunk that learns its parameters as "trunk.<name>".
  NamedTensors named_parameters() const;
  AdamW& optimizer() { return optimizer_; }
  const AdamW& optimizer() const { return optimizer_; }
  const CriticOptions& options() const { return options_; }
  at::Device device() const { return trunk_->device(); }

  /// Writes value_head.safetensors, and an own trunk as a Hugging Face folder around it.
  void save(const std::filesystem::path& dir) const;
  static std::filesystem::path head_file(const std::filesystem::path& dir) { return dir / "value_head.safetensors"; }
  /// Reads value_head.safetensors of such a folder. Missing or misshapen tensors throw InputError naming them.
  void load_head(const std::filesystem::path& dir);

 private:
  Critic(Policy* policy, std::unique_ptr<Policy> own_trunk, CriticOptions options);

  CriticOptions options_;
  std::unique_ptr<Policy> own_trunk_;  // null: the trunk is the policy's
  Policy* trunk_;
  Tensor weight_, bias_;
  AdamW optimizer_;
};

/// The value loss of PPO: 1/2 sum_t max((V_t - R_t)^2, (clip(V_t, V_old,t - c, V_old,t + c) - R_t)^2), the clip as in
/// OpenAI's implementation (arXiv 2005.12729, section 3, item 1). c = 0: no clip.
struct ValueLoss {
  Tensor loss;     ///< scalar, the sum
  Tensor clipped;  ///< scalar without gradient: tokens whose clipped error is the larger one; they have no gradient
};
/// value [M] with gradient; old_value, returns [M] of its dtype.
ValueLoss value_loss(const Tensor& value, const Tensor& old_value, const Tensor& returns, double clip);

}  // namespace plural
