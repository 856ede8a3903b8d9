// SPDX-License-Identifier: Apache-2.0
#include "rewards/pass_at.h"

namespace plural {
namespace {

/// pass_at_i with i = 3, under the name that the reference code has for it.
class PassAt3 final : public rewards::PassAt {
 public:
  using Options = NoOptions;
  explicit PassAt3(Options) : PassAt("pass_at_3", 3) {}
};

}  // namespace

void register_pass_at_3(Registry<Reward>& registry) {
  add_reward<PassAt3>(registry, "pass_at_3", "1 if one of the 3 top-ranked answers is correct");
}

}  // namespace plural
