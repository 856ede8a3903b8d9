// SPDX-License-Identifier: Apache-2.0
#include "rewards/pass_at.h"

namespace plural {
namespace {

/// 1 where one of the `i` top-ranked answers is correct and the format holds.
class PassAtI final : public rewards::PassAt {
 public:
  struct Options {
    int64_t i = 3;
    template <class V>
    void fields(V& v) {
      v.field("i", i, at_least(1), "how many of the ranked answers count");
    }
  };
  explicit PassAtI(Options options) : PassAt("pass_at_i", options.i) {}
};

}  // namespace

void register_pass_at_i(Registry<Reward>& registry) {
  add_reward<PassAtI>(registry, "pass_at_i", "1 if one of the i top-ranked answers is correct");
}

}  // namespace plural
