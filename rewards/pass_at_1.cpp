// SPDX-License-Identifier: Apache-2.0
#include "rewards/pass_at.h"

namespace plural {
namespace {

/// 1 where the answer of the highest confidence (or the first one) is correct and the format holds.
class PassAt1 final : public rewards::PassAt {
 public:
  using Options = NoOptions;
  explicit PassAt1(Options) : PassAt("pass_at_1", 1) {}
};

}  // namespace

void register_pass_at_1(Registry<Reward>& registry) {
  add_reward<PassAt1>(registry, "pass_at_1", "1 if the top-ranked answer is correct");
}

}  // namespace plural
