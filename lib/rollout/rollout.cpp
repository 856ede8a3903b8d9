// SPDX-License-Identifier: Apache-2.0
#include "plural/rollout.h"

#include <numeric>

namespace plural {

std::string_view to_string(FinishReason reason) { return reason == FinishReason::kStop ? "stop" : "length"; }

int64_t RolloutBatch::generated_tokens() const {
  return std::accumulate(rows.begin(), rows.end(), int64_t{0},
                         [](int64_t sum, const Completion& row) { return sum + static_cast<int64_t>(row.ids.size()); });
}

}  // namespace plural
