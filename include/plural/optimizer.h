// SPDX-License-Identifier: Apache-2.0
// AdamW with float32 master weights, learning-rate schedules, gradient clipping. State goes by parameter name.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "plural/config.h"
#include "plural/policy.h"
#include "plural/tensor.h"

namespace plural {

struct OptimizerOptions {
  double learning_rate = 1e-5;
  double beta1 = 0.9;
  double beta2 = 0.99;
  double eps = 1e-8;
  double weight_decay = 0.0;
  double max_grad_norm = 1.0;
  std::string schedule = "constant";
  int64_t warmup_steps = 0;
  double final_factor = 0.1;

  using config_struct = void;
  template <class V>
  void fields(V& v) {
    v.field("learning_rate", learning_rate, above(0), "peak learning rate");
    v.field("beta1", beta1, between(0, 1), "AdamW: decay of the gradient mean");
    v.field("beta2", beta2, between(0, 1), "AdamW: decay of the squared-gradient mean");
    v.field("eps", eps, above(0), "AdamW: added to the root of the second moment");
    v.field("weight_decay", weight_decay, at_least(0), "decoupled weight decay (matrices only)");
    v.field("max_grad_norm", max_grad_norm, at_least(0), "gradients are scaled down to this global norm; 0 = off");
    v.field("schedule", schedule, one_of({"constant", "linear", "cosine"}), "shape after warm-up");
    v.field("warmup_steps", warmup_steps, at_least(0), "steps of linear warm-up");
    v.field("final_factor", final_factor, between(0, 1), "linear and cosine end at this share of the peak");
  }
};

/// Factor on the peak learning rate at step `step` (0-based) of `total_steps`: (step + 1) / warmup_steps during
/// warm-up, then the schedule; the last step has `final_factor`.
double schedule_factor(const OptimizerOptions& options, int64_t step, int64_t total_steps);

struct StepResult {
  double grad_norm = 0;  ///< before clipping, summed in float64
  double learning_rate = 0;
  bool skipped = false;  ///< gradient not finite: parameters and state untouched
};

/// Decoupled AdamW (Loshchilov & Hutter 2019). Parameters below float32 get float32 masters; moments are
/// float32 (float64 for float64 parameters). The same bits for any number of threads. One thread at a time.
class AdamW {
 public:
  /// Keeps the parameters (the tensors, not copies); names must be unique.
  AdamW(NamedTensors parameters, OptimizerOptions options);
  /// Reads `.grad()` of every parameter (undefined = zero), updates, and clears the gradients.
  StepResult step(double learning_rate);
  /// To be called before each further backward pass of a step: moves gradients of parameters below float32 into float32
  /// sums, which the step adds to what comes after. Summed in their own precision, small parts would be lost, and the
  /// step would depend on how the batch is cut. The sums cost memory only in steps of several passes.
  void set_gradients_aside();
  void zero_grad();
  /// "step", "<name>.exp_avg", "<name>.exp_avg_sq", "<name>.master": for checkpoints. Aliases the live
  /// tensors: write or clone before the next step.
  NamedTensors state() const;
  /// Missing, surplus or misshapen entries throw InputError naming the parameter.
  void load_state(const NamedTensors& state);
  const OptimizerOptions& options() const { return options_; }
  int64_t steps() const { return steps_; }

 private:
  struct Slot {
    std::string name;
    Tensor parameter, master, exp_avg, exp_avg_sq;
    Tensor gradient_sum;  // float32, of earlier backward passes; undefined = there was none
    bool decay = false;
  };
  std::vector<Slot> slots_;
  OptimizerOptions options_;
  int64_t steps_ = 0;
};

}  // namespace plural
