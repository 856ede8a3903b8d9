// SPDX-License-Identifier: Apache-2.0
// The reference of the KL term, when it follows the policy.
#pragma once

#include <string>
#include <vector>

#include "plural/objective.h"
#include "plural/policy.h"

namespace plural {

/// After every `every`-th step: reference <- (1 - rate) reference + rate policy (Gorbatovski et al., arXiv 2404.09656:
/// rate 1 is their hard update, less is the soft one). Averages of parameters below float32 are kept in float32, since
/// small steps would be lost.
class MovingReference {
 public:
  /// Both must outlive it. Parameters that differ in name or shape throw InputError naming the first.
  MovingReference(Policy& reference, Policy& policy, ReferenceUpdateOptions options);
  /// `step`: steps done.
  void after_step(int64_t step);
  /// Reference parameters by name; aliases the live tensors.
  NamedTensors state() const;
  void restore(const NamedTensors& state);

 private:
  struct Slot {
    std::string name;
    Tensor reference, average, policy;
  };
  void publish();

  std::vector<Slot> slots_;
  ReferenceUpdateOptions options_;
};

}  // namespace plural
